"""A vLLM server as an engine: variants are LoRA adapters there.

Called by the generator's server.
"""
