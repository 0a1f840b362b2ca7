"""What a job will come to, told before it runs: a probe, a forecast, and whether there is room for it."""
