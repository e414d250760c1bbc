"""Training on a Ray cluster: the job, the run folder, what a worker tells of its progress."""
