"""End-to-end pipelines: ``python -m pipelines.photos`` and ``python -m pipelines.aachen``."""
