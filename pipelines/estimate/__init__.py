"""What a run will take before it is started: memory, disk, minutes and cost."""
