"""The quality table: effect and harm of edits, beside their baselines.

Run by `make quality`.
"""
