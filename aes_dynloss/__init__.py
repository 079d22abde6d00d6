"""aes-dynloss: Transformer essay scorers trained under losses that change while they train."""
