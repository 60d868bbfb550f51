"""What serving costs: the engine, beside vLLM, and the API, alone and under load.

Each file is a script of its own, or what one of them starts.
"""
