"""What ``--probe`` does: short-lived pods in the two namespaces, which are always deleted."""
