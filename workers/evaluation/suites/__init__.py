"""The standard suites, on the operator's data. A built-in one is a folder here: `__init__.py` has
its table of settings, which the API loads too, and `run.py` measures.

They are found as entry points of `scalpel.suites`; see `models_store.operator.suites`.
"""
