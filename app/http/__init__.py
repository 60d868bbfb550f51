"""Parts of a response: errors, files, pages, headers, the API's description.

Called by routes and by what runs around them.
"""
