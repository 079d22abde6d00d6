"""What users of the package call: fine-tuning, scoring and explaining as the commands do them."""
