"""Ensembles of fine-tuned scorers."""
