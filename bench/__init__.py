"""Measurements, each one command: `python -m bench write|train|quality|startup|ingest|growth|length|repeat|gpu`."""
