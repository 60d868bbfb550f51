"""How costs grow: with texts, their length, the size of the model, editors, and stored edits.

Run as `python -m benchmarks.scaling.main`; a file for each part, which yields its points.
"""
