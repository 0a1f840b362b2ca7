"""What a curator marked, taken back into a pipeline."""
