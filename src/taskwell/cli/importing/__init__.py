"""`taskwell import`: bring the tasks of another back end along."""
