"""Sparse autoencoders: the mathematics, and one file for each published format."""
