"""One trial of a sweep: a training whose failure by its own settings is a result."""
