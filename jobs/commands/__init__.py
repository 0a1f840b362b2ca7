"""One file for each command of `editmill`. A module imports only typer at its top: heavy imports wait for the call."""
