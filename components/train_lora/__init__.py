"""Training of a LoRA adapter, with loss on the assistant's messages only."""
