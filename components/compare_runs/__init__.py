"""Compare runs: a table, the effect of each setting, which differences are significant, and the model to choose."""
