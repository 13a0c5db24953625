"""The bounds outside which nothing is published."""
