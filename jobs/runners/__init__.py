"""Two ways to spread a chain over a machine or a cluster, with the same results: `in_process` and `ray_data`."""
