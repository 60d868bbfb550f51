"""Records and messages, as frozen pydantic models.

Every package may use them; nothing here does I/O.
"""
