"""The commands of the ``lorry`` command line, by subject."""
