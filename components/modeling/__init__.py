"""Base models as transformers loads them: weights, tokenizer, chat template, supervision, loss."""
