"""A whole model as one GGUF file of llama.cpp: written from a Hugging Face folder, read back."""
