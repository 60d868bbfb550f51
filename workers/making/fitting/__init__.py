"""What methods are fitted on, and what each makes of it.

Called by the search and by the editor.
"""
