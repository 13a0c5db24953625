"""Whether a base model can be trained, exported and served, found out before the training."""
