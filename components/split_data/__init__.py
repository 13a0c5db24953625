"""Split chat data into train, validation and test rows, with an outcome for every row."""
