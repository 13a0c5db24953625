"""What a sweep has to show, put into the store under its run."""
