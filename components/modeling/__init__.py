"""Base models through transformers: weights, tokenizer, chat template, supervision, loss."""
