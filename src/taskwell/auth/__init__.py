"""Authentication: tokens, the keys that verify them, and the owner of a request."""
