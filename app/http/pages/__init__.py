"""The HTML pages: templates, and what fills them.

Called by the routes of pages, and where an answer is for a browser.
"""
