"""Commands that talk to a service: edits, and what is done with them."""
