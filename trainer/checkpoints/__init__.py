"""What outlives the process: checkpoints, and the moving average."""
