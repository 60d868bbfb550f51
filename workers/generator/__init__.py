"""Generation with resident base models: each row of a batch with its own edits and strengths."""
