"""Who gets in, and what they see: against real processes, over real HTTP."""
