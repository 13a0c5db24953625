"""The HTTP side of the model server: OpenAI's protocol, middleware, errors, probes."""
