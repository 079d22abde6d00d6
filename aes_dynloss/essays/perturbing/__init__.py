"""Changes to essays with a known effect on the score."""
