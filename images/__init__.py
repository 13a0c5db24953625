"""The container images: a folder each, and the programs that build and check them."""
