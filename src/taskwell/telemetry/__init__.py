"""What the operator sees of the service: the log and the access log."""
