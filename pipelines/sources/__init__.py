"""Sources: where edit pairs and image records come from."""
