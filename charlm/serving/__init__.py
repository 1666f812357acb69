"""Runs over HTTP, with the interface of OpenAI: many requests of a run are written together."""
