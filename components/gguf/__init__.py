"""All that touches llama.cpp's library: the file's check, the model, its context, kernels and samplers."""
