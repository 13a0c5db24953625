"""Successive halving: choose the trials of a rung that are continued."""
