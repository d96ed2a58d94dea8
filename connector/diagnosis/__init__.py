"""What an engine, a login and an index allow, and what follows from it."""
