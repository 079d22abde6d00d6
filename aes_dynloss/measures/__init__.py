"""Measures of agreement, reliability, calibration and fairness: arrays in, numbers out. No files, no models."""
