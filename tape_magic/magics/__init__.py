"""The floor that knows the shell."""
