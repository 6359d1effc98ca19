"""How the bundled model, its SAEs and its text are made and measured."""
