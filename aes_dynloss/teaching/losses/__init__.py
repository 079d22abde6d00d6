"""Losses as functions of elements and, where they change, of coefficients; and their descriptions in files."""
