"""Painters of the city's pictures: each takes a random generator and returns a :class:`~.noise.Picture`."""
