"""Folders of Hugging Face's library, transformers: read as runs, and written from runs."""
