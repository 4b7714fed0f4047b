"""Meshes of buildings: facades and roofs."""
