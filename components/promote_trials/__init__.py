"""Successive halving: which trials of a rung are continued."""
