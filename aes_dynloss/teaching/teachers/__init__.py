"""Teachers: networks that output a loss's coefficients, and the controls that isolate what in them helps."""
