"""The model and everything that needs torch. Knows nothing of Qt or the session."""
