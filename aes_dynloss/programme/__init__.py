"""A scoring programme over its years: which essays humans read, and what becomes of their readings."""
