"""OpenAI's API in terms of generators: requests, responses, and who writes them.

Called by the routes under `/v1/completions` and `/v1/chat`, comparisons and drafts.
"""
