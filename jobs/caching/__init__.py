"""Storing what the frozen parts of a model make of packed samples, spread over a machine or a cluster."""
