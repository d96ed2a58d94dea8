"""Corpora: files of any format, folders and patterns → lines that each hold one document."""
