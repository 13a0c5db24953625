"""Running a pipeline on this machine, and its work folder."""
