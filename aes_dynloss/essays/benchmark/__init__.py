"""A grid of fine-tuning runs (losses x folds x seeds x prompts), run so that it can be stopped, and reported as one."""
