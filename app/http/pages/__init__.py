"""The HTML pages: templates, and what fills them.

Called by the routes of pages, and where a response is for a browser.
"""
