"""A vLLM server as an engine: variants are LoRA adapters on it.

Called by the generator's server.
"""
