"""A model fetched from the store by its digest: what runs before the server in a pod."""
