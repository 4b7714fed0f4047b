"""Matchers side by side: accuracy, cost and calibration, in one run (``python -m benchmarks.matchers``)."""
