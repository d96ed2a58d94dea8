"""Tuning of the scoring settings on judged queries, without encoding or indexing again."""
