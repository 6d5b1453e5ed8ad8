"""What the tests use and is not a test: clients, servers, and tools around them."""
