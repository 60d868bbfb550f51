# Generated from `_async` by `make client`: do not change it here.
"""The calls of the API, as it describes them."""
