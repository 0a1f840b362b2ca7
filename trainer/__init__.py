"""Shards in, an edited-region-weighted flow-matching model out: loader, loss, DeepSpeed engine, EMA, checkpoints."""
