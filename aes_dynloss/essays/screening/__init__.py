"""Screening: reasons to doubt an essay's score, found from its text alone, fast, without torch."""
