"""Essays: readers, splits, the Transformer scorer, fine-tuning and scoring."""
