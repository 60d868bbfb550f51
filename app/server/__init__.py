"""The API under uvicorn: connections, bounds, a clean end.

Started by the command line.
"""
