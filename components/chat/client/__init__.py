"""The chat page as a client of OpenAI-compatible servers: answers that run in the background."""
