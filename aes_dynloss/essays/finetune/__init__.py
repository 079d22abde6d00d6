"""Fine-tuning: from a configuration to a run folder with model, predictions and report."""
