"""What the chat page keeps in its SQLite file: conversations, comparisons, the labels of models; and its exports."""
