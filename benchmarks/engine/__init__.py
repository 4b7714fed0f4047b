"""The stages side by side with HLOC's, on the same files in one run: ``python -m benchmarks.engine``.

One module per comparison; each has ``compare(setup) -> list[Row]``.
"""
