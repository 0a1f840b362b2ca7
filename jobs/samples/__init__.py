"""Samples to look at, wherever they lie: packed, in a run folder, as pairs, as plain image files.

How many there are and what an index says of them is read first; then only the rows that are looked at.
"""
