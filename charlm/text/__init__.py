"""From a file to token ids: corpus, tokenizers, store."""
