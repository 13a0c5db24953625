"""Running a pipeline on Kubeflow, and what a cluster serves."""
