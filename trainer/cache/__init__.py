"""What the frozen parts make of packed samples, stored beside the shards: written once, read by every run."""
