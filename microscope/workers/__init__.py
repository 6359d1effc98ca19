"""Starts, watches, restarts and talks to the engine process. No Qt, no torch."""
