# Generated from openapi.json by `make client`: do not change it here.
"""The calls of the API, as it describes them."""
