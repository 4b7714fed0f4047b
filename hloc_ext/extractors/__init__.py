"""Thin wrappers of local and global feature extractors, one file each, found by file name."""
