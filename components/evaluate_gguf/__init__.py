"""The quantized file against f16: what quantization costs, and how long an answer takes where it will be served."""
