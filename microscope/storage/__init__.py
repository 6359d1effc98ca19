"""Paths, settings and what is kept on disk. No torch, no Qt."""
