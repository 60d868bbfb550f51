"""What can be said of an edit before it is made.

Called by generators for `POST /v1/edits/estimate`.
"""
