"""The built-in methods, a folder each: `__init__.py` is loaded by the API too and imports no torch,
`fit.py` makes the edit. They are found as entry points of `scalpel.methods`; see
`models_store.schemas.method_base`.
"""
