"""Edit masks: difference -> dilation or closing -> components -> max-pool, in recipes known by name."""
