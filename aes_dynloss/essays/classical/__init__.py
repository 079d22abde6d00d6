"""Scorers without a neural network, and exact solutions for what is linear: numpy and scipy alone."""
