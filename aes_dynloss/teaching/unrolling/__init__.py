"""A student's training as a sequence of pure steps: run forwards, remembered, and walked back."""
