"""Answers that run in the background of the page, whether a window follows them or not."""
