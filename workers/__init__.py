"""The processes that load weights: the editor and the generator, and what they share."""
