"""`charlm experts` counts what the routers choose, and says how to train a run that has experts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from charlm import job
from charlm.errors import SettingsError
from charlm.inside.experts import count, load, windows
from charlm.plan import Plan
from charlm.progress import result
from charlm.text.corpus import Corpus
from charlm.writer import Writer

Typed = Callable[..., tuple[int, str, str]]
SMALL = {"arch": "transformer", "layers": 4, "hidden_size": 16, "heads": 2, "seq_len": 16, "batch_size": 4}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experts")
    text = folder / "verses.txt"
    text.write_text(40 * "The lamp is out, the tide is in.\nWICK: I am wet to the knee.\n")
    plan = Plan.of({**SMALL, "experts": 3, "steps": 3})
    for _ in job.train(plan, Corpus.open([text]), out=folder / "run", cache_dir=folder):
        pass
    return folder / "run"


def test_windows_hold_each_token_once_and_in_order() -> None:
    for length in (1, 7, 8, 50_001):
        rows = list(windows(np.arange(length), 8))
        assert np.concatenate([row.reshape(-1) for row in rows]).tolist() == list(range(length))
        assert all(row.shape[1] == 8 for row in rows[:-1])


@torch.no_grad()
def test_each_token_is_counted_where_its_router_sends_it(build: Callable[..., Writer]) -> None:
    """By the shares of each router, from what it is given in a window that begins on a blank page."""
    model = build("transformer", layers=4, experts=3).model.eval()
    ids = np.random.default_rng(0).integers(12, size=40)
    counts = result(count(model, ids))
    given: dict[int, list[torch.Tensor]] = {2: [], 4: []}
    for number, kept in given.items():
        model.blocks[number - 1].experts.register_forward_pre_hook(lambda _, x, kept=kept: kept.append(x[0]))
    for row in (ids[:16], ids[16:32], ids[32:]):
        model(torch.from_numpy(row)[None])
    assert set(counts) == {2, 4}
    for number, kept in given.items():
        chosen = (torch.cat(kept, 1)[0] @ model.blocks[number - 1].experts.router.weight.T).argmax(-1)
        expected = Counter(zip(chosen.tolist(), ids.tolist(), strict=True))
        assert {(i, v): n for (i, v), n in np.ndenumerate(counts[number]) if n} == expected


def test_loads_are_shares_of_the_text_and_tokens_shares_of_their_own(run: Path) -> None:
    loaded = result(load(run, top=100))
    assert list(loaded.layers) == [2, 4]
    for experts in loaded.layers.values():
        assert sum(expert.load for expert in experts) == pytest.approx(1)
        times = [sum(share.times for share in expert.tokens) for expert in experts]
        assert times == [round(expert.load * loaded.tokens) for expert in experts]
        shares = Counter[str]()
        for share in (share for expert in experts for share in expert.tokens):
            shares[share.token] += share.of_all  # type: ignore[assignment]
        assert set(np.round(list(shares.values()), 6)) == {1.0}


def test_it_is_drawn_told_and_saved(run: Path, typed: Typed, tmp_path: Path) -> None:
    code, out, _ = typed("experts", run, "--html", tmp_path / "load.html", "--svg", tmp_path / "load.svg")
    assert code == 0
    assert "evenly shared it is 33.3" in out
    rows = [line.split() for line in out.split("\n") if line.startswith("layer ")]
    assert [row[1] for row in rows[:2]] == ["2", "4"]
    assert sum(map(int, rows[0][2:])) == pytest.approx(100, abs=2)
    assert (tmp_path / "load.html").stat().st_size > 1000 < (tmp_path / "load.svg").stat().st_size
    (tmp_path / "other.txt").write_text("the tide, the tide\n")
    told = json.loads(typed("experts", run, "--text", tmp_path / "other.txt", "--top", "2", "--json")[1])
    assert (told["tokens"], told["of"]) == (19, 19)
    assert all(len(expert["tokens"]) <= 2 for expert in told["layers"]["2"])


def test_of_a_long_text_the_beginning_is_read_and_that_is_said(
    run: Path, typed: Typed, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "in percent of 122 tokens;" in typed("experts", run)[1]
    monkeypatch.setattr("charlm.inside.experts.LONGEST", 100)
    assert "in percent of the first 100 of 122 tokens;" in typed("experts", run)[1]


def test_an_empty_text_is_refused(run: Path, typed: Typed) -> None:
    Path("empty.txt").write_text("")
    code, out, error = typed("experts", run, "--text", "empty.txt")
    assert (code, out, error.count("\n")) == (2, "", 1)


def test_a_run_without_experts_is_refused_with_the_way_to_one(
    build: Callable[..., Writer], trained: Path, typed: Typed
) -> None:
    code, out, error = typed("experts", trained)
    assert (code, out) == (2, "")
    assert "no experts to choose from; train one with: charlm train FILE --arch transformer --experts 8" in error
    with pytest.raises(SettingsError, match="no experts to choose from"):
        build("transformer").model.routing(torch.zeros(1, 3, dtype=torch.long))
