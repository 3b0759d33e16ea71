"""Names in, results out: the one room that knows all others."""
