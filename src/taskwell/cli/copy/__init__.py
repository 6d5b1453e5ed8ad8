"""`taskwell copy`: copy all data to another database."""
