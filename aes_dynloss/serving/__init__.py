"""A scorer as a service over HTTP: one model, one thread that scores, many clients at once."""
