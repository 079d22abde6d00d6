"""Scored essays: strict readers, the table, splits, checks."""
