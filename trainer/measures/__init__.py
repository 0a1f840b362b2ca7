"""What a run costs: FLOPs, memory and speed, before it starts and while it goes."""
