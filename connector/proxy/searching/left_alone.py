"""Searches that are not rewritten."""

from __future__ import annotations


class LeftAlone(Exception):
    """A search that is passed through; the message is the reason."""
