"""Linguistic features of essays: what can be counted without an encoder."""
