"""Chat data in; train, validation and test rows out, with an account of every row."""
