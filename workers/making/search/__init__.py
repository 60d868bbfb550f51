"""Which candidates are tried, how they are scaled, and which one is kept.

Called by the editor.
"""
