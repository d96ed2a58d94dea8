"""Settings of scoring chosen on judged questions, with nothing encoded or indexed again."""
