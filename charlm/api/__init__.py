"""charlm in Python: what `charlm.train`, `charlm.load` and `charlm.compare` give. Thin over what commands use, too."""
