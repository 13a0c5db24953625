"""Publish nothing outside the recipe's bounds."""
