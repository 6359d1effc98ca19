"""What the user looks at and has asked for: the one source of truth. No torch, no Qt."""
