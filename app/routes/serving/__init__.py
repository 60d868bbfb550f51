"""Routes that generate: completions, comparisons, models.

Included by `app.routes`.
"""
