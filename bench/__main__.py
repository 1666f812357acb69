"""`python -m bench NAME …`: one measurement. Nothing else should run on the machine meanwhile."""

from __future__ import annotations

import importlib
import sys

NAMES = ("write", "train", "quality", "startup", "ingest", "growth", "length", "repeat", "serve", "gpu")

if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in NAMES:
        sys.exit(f"which measurement? python -m bench {'|'.join(NAMES)} [--help]")
    importlib.import_module(f"bench.{sys.argv[1]}").main(sys.argv[2:])
