"""Which step feeds which, on what hardware, and the command line."""
