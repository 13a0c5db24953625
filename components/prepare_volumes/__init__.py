"""Check the volumes, once, before the first run."""
