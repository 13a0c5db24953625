"""Adapter and base merged, converted to GGUF, quantized and proven to answer."""
