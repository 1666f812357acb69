"""The command line: one file per command, no logic. Only here are rich and typer imported."""
