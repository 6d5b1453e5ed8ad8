"""Clients, servers and tools that the tests share."""
