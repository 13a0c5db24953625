"""Volumes made ready for the images' user, once, before the first run."""
