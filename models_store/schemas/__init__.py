"""What is written down and sent, as frozen pydantic models.

Every part may use them; nothing here does I/O.
"""
