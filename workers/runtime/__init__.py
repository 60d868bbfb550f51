"""A base model in memory: load it, apply and undo edits, read it out, decode with it."""
