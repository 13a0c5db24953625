"""Put a model into the store, completely or not at all."""
