"""The engine of the model server: one thread that decodes many sequences at once."""
