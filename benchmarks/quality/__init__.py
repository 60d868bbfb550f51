"""The quality table: what edits do and harm, beside their baselines.

Run by `make quality`.
"""
