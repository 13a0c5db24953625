"""Requests to OpenAI-compatible servers: which models they list, and the streams of their completions."""
