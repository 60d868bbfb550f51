"""What an edit does and what it costs, measured on texts and prompts that it was not fitted on."""
