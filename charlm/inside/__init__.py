"""Looking inside a trained run: one file per question, each a pure function of a `Writer` and a text."""
