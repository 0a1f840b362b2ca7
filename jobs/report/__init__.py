"""What a job says at its end: counts that add up, and the page for people."""
