"""Which step feeds which, on what hardware, in which image."""
