"""Quantiles: the best or worst share of all rows by a number."""
