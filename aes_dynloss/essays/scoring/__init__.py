"""Scoring essays from tables: in windows, resumable, with advisories and a review sheet."""
