"""A LoRA adapter trained on the assistant's words."""
