"""Tuning a mask recipe: the same few pairs, decoded once, masked and drawn again at every change of a parameter."""
