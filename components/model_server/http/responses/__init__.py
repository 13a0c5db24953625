"""Responses in OpenAI's form, built from the engine's deltas: one JSON body, or server-sent events."""
