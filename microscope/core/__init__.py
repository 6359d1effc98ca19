"""The vocabulary that every layer shares: frozen data, numpy and msgspec at the heaviest."""
