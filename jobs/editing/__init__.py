"""Editing many images with a model: rows from a list or from packed shards, an outcome for each, and going on later."""
