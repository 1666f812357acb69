"""One small comparison, really made."""

from __future__ import annotations

import pickle

import pytest
from shared import shared

from charlm.comparing.contest import Contest
from charlm.comparing.run import Comparison, train_and_compare
from charlm.progress import result
from charlm.text.corpus import Corpus

VERSES = "The lamp is out, the tide is in, and I am wet to the knee.\nThen stand on me, good Wick!\n" * 40
COMMON = {"steps": 40, "seq_len": 16, "batch_size": 4, "eval_every": "20", "precision": "fp32"}
LABELS = ["lstm:hidden_size=16", "transformer:hidden_size=16:layers=1", "gru:hidden_size=65536:layers=64"]


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two architectures, two seeds each, and one that no machine can hold. To be read, not changed."""
    with shared("compared", tmp_path_factory) as folder:
        made = folder / "made.pickle"
        if not made.exists():
            text = folder / "verses.txt"
            text.write_text(VERSES, encoding="utf-8")
            contest, places = Contest.of(LABELS, "tokens", 2, COMMON), {"out": folder / "made", "cache_dir": folder}
            made.write_bytes(
                pickle.dumps(result(train_and_compare(contest, Corpus.open([text]), jobs=2, target=4.0, **places)))
            )
        comparison: Comparison = pickle.loads(made.read_bytes())
    return comparison
