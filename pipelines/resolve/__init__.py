"""A recipe's addresses pinned: digests, commits, base models made on this machine."""
