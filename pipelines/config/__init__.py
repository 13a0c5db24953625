"""The documents that a user writes: recipes and sweeps, with their addresses and pools."""
