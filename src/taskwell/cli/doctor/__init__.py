"""`taskwell doctor`: checks the set-up and explains why a token is accepted or refused.

It uses the service's own connection, key set and verifier, and changes nothing. It shows a token's claims, because only
the operator sees the terminal. It never shows a token, a secret or a password, because people paste reports into tickets.
"""
