"""Ways to run a chain, with the same results: `in_process`; on Ray `ray_tasks` where no step holds a model, `ray_data`
where one does."""
