"""Whose request it is: tokens, keys, owners."""
