"""How a model's chat template writes tool calls, and reading them out of an answer."""
