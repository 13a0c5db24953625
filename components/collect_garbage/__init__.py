"""What can go from a store, from checkpoints and from a work folder: the listing, the decision, the deletion."""
