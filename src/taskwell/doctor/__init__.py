"""`taskwell doctor`: does the set-up work, and why is a token accepted here or not, in plain words.

It looks through the service's own eyes, with the same connection, key set and verifier, and changes nothing. The
terminal is its operator's, so it shows what a token claims; but no token, secret or password: reports end up in tickets.
"""
