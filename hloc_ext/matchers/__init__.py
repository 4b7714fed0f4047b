"""Thin wrappers of sparse and semi-dense matchers, one file each, found by file name."""
