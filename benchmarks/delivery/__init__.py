"""Whether whoever brings texts gets a usable edit, and what it does on prompts that are new."""
