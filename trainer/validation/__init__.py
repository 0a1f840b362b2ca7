"""Held-out loss and edited images while a run trains."""
