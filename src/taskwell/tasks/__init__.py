"""Tasks: what they are, what the database does with them, what HTTP says of them."""
