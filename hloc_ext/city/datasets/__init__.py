"""Writers of synthetic data sets, one module for each layout; :mod:`hloc_ext.city.generate` calls them.

Each module describes its layout in its docstring and offers ``write(output, size, seed, workers)``.
Everything is made from the seed: a picture does not depend on which others exist, so work can be split,
interrupted and resumed.
"""
