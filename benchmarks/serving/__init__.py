"""What serving costs: the engine, beside vLLM, and the API under load.

Each file is a script of its own.
"""
