"""A check before training that a base model can be trained, exported and served."""
