"""The engine that moves the parameters."""
