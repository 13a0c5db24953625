"""Fetch a model from the store by its digest; runs before the server in a pod."""
