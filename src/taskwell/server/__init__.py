"""Serving the application: processes, signals, and the HTTP protocol."""
