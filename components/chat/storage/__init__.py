"""The chat page's SQLite file: conversations, comparisons, labels."""
