"""Weights -> disk: a run is a folder, and the folder is enough. JSON and safetensors only; no code in data."""
