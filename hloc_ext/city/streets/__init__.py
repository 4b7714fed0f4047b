"""Meshes of all that is no building: the ground, furniture, plants, cars and people."""
