"""The kinds of work that an editor does, from inputs to files.

Called by `workers.editor.job`.
"""
