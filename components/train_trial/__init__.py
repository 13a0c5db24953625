"""One trial of a sweep. A training that fails because of its settings is a result too."""
