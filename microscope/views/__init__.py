"""Qt widgets. They observe the session and say what the user asked for; they decide nothing."""
