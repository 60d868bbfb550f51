"""Names of variants, and aliases that stand for them.

Called by the routes that take a `model`.
"""
