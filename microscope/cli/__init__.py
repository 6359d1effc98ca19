"""The command line. Imports torch and Qt only inside the commands that need them."""
