"""Checks before a run is started or sent: the base model and the split."""
