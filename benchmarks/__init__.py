"""Measurements: ``python -m benchmarks.NAME`` prints a table made in one run."""
