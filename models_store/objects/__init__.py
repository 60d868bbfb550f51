"""Objects by path in `file://` or `s3://`, with conditional creates.

Called by the stores built on it; routes and workers go through those.
"""
