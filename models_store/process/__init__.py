"""What every process does: its log, and ending with its parent.

Called where processes start.
"""
