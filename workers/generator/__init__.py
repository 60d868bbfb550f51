"""Live generation: one resident base model, any edit of it at any strength in any row."""
