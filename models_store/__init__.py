"""Records, artifacts, the catalogue and the delta format: what the API and the workers share."""
