# Generated from `_async` by `make client`: do not change it here.
"""Resources that do more than one call of the API at a time."""
