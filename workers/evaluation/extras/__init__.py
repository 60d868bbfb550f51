"""What a receipt says beyond effect, damage and controls.

Called by the evaluation and by the editor.
"""
