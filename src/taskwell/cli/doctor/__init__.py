"""`taskwell doctor`: does the set-up work, and why is a token accepted or refused?

It uses the service's own connection, key set and verifier, and changes nothing. It shows what a token claims, because only
the operator sees the terminal. It never shows a token, a secret or a password, because reports end up in tickets.
"""
