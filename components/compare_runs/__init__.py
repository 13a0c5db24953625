"""Runs side by side: one table, what each setting does, which differences are real, and which model to take."""
