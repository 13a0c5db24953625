"""A finished run pushed to a hub, with its card."""
