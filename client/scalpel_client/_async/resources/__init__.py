"""Resources that do more than one call of the API at a time."""
