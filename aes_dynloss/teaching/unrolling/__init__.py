"""Unrolled training: a student's run as a sequence of pure steps, recorded for differentiation in reverse."""
