"""What passes between the parts: rows, the record of a run, the manifest of a model."""
