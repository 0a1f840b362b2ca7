"""Duplicates: images hashed by content and by look, and rows dropped that are another's copy or near copy."""
