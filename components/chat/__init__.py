"""The chat page: a client of the OpenAI API."""
