"""The artifacts that the parts exchange: rows, the record of a run, the manifest of a model."""
