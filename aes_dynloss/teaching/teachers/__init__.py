"""Teachers: networks that answer a loss's coefficients, and the controls that tell what in them helps."""
