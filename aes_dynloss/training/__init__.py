"""The training loop and what it stands on: Accelerate, batches, checkpoints, logs. It knows no text and no pixels."""
