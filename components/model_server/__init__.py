"""An OpenAI-compatible HTTP API over one GGUF file."""
