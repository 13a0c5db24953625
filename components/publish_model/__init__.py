"""A model put into the store, whole or not at all."""
