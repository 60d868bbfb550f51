"""`/v1/files` and `/v1/fine_tuning/jobs`, as OpenAI's clients call them."""
