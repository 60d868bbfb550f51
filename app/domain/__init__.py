"""What the API knows and decides, without HTTP: FastAPI is not imported here.

Called by routes, loops and the command line.
"""
