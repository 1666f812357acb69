"""One small comparison, really made."""

from __future__ import annotations

import pytest

from charlm.compare.contest import Contest
from charlm.compare.run import Begun, Comparison, train_and_compare
from charlm.text.corpus import Corpus

VERSES = "The lamp is out, the tide is in, and I am wet to the knee.\nThen stand on me, good Wick!\n" * 40
COMMON = {"steps": 40, "seq_len": 16, "batch_size": 4, "eval_every": "20", "precision": "fp32"}
LABELS = ["lstm:hidden_size=16", "transformer:hidden_size=16:layers=1", "gru:hidden_size=65536:layers=64"]


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Begun]:
    """Two architectures, two seeds each, and one that no machine can hold. To be read, not changed."""
    folder = tmp_path_factory.mktemp("compared")
    text = folder / "verses.txt"
    text.write_text(VERSES, encoding="utf-8")
    contest = Contest.of(LABELS, "tokens", 2, COMMON)
    work = train_and_compare(
        contest, Corpus.open([text]), out=folder / "made", cache_dir=folder / "cache", jobs=2, target=4.0
    )
    begun = None
    while True:
        try:
            event = next(work)
        except StopIteration as end:
            assert begun is not None
            return end.value, begun
        if isinstance(event, Begun):
            begun = event
