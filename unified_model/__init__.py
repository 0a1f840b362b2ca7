"""The editing model: understanding tower, semantic encoder, connectors, DiT, and the pipeline that edits an image."""
