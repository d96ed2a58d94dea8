"""Plain implementations to compare the fast ones with."""
