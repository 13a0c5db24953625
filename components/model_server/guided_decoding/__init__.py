"""Which token may come next where an answer must follow a JSON schema or a grammar."""
