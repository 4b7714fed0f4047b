"""Global descriptors side by side, in one run (``python -m benchmarks.retrieval``)."""
