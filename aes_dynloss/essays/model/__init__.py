"""The Transformer scorer: encoder, pooling, heads, its tensors, its folder."""
