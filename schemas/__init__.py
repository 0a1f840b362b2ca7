"""The vocabulary shared by every floor: records, shard layout, masks, weighting. Imports nothing of ours."""
