"""Judged collections, read from files or generated, and the corpus that ships with Python."""
