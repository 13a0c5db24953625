"""Files by address and digest: the store, downloads, inputs, published models."""
