"""How a city is laid out: streets, lots, buildings, furniture; see :mod:`hloc_ext.city.plan`."""
