"""Base against tuned: loss, perplexity and answers side by side."""
