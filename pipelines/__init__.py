"""What happens to data: filter, read, recaption, mask, pack, validate, preview. Knows nothing of where it runs."""
