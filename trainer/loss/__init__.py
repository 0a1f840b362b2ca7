"""The region-weighted flow-matching loss."""
