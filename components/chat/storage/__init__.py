"""What the chat page stores in its SQLite file: conversations, comparisons, the labels of models; and its exports."""
