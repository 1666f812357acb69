"""What may come next, before and after each filter."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import charlm
from charlm import job
from charlm.inside.explain import explain
from charlm.plan import Plan
from charlm.sampling.filters import Picker, filtered
from charlm.sampling.noise import streams
from charlm.sampling.settings import Request
from charlm.text.corpus import Corpus
from charlm.views.console import show, table

Typed = Callable[..., tuple[int, str, str]]
ALL = Request("0.7", top_k=8, top_p=0.9, min_p=0.05, repetition_penalty=1.3, prompt="Two fools in a pu")


def test_every_filter_that_is_on_is_a_stage_in_its_order(trained: Path) -> None:
    found = explain(charlm.load(trained), ALL)
    names = ["model", "repetition penalty 1.3", "temperature 0.7", "top-k 8", "top-p 0.9", "min-p 0.05"]
    assert [stage.name for stage in found.stages] == names
    for stage in found.stages:
        assert sum(stage.probabilities) + stage.rest == pytest.approx(1, abs=1e-5)
    kept = [stage.kept for stage in found.stages]
    assert kept[3] == 8
    assert kept == sorted(kept, reverse=True)
    assert [stage.name for stage in explain(charlm.load(trained), Request("1")).stages] == ["model"]


@torch.no_grad()
def test_the_first_stage_is_the_model_and_the_last_is_what_is_sampled_from(trained: Path) -> None:
    writer = charlm.load(trained)
    found = explain(writer, ALL, top=writer.tokenizer.vocab_size)
    ids = torch.from_numpy(writer.tokenizer.encode(ALL.prompt))[None]
    logits = writer.model(ids).logits[:, -1]
    order = logits[0].argsort(descending=True)
    assert found.tokens == [writer.tokenizer.decode([i]) for i in order.tolist()]
    torch.testing.assert_close(torch.tensor(found.stages[0].probabilities), logits[0].softmax(-1)[order])
    picker = Picker(ALL, streams(0, [0]), ids)
    last = filtered(ALL, picker.temperature, logits, picker.recent)[0].softmax(-1)[order]
    torch.testing.assert_close(torch.tensor(found.stages[-1].probabilities), last)


def test_the_command_shows_bars_and_saves_them(typed: Typed, trained: Path) -> None:
    code, out, error = typed("explain", trained, "--prompt", "WICK", "--top-k", "3", "--svg", "a.svg", "--top", "5")
    assert code == 0, error
    assert "top-k 3" in out
    assert "█" in out
    assert out.count("%") >= 5
    assert "possible" in Path("a.svg").read_text()
    told = json.loads(typed("explain", trained, "--prompt", "WICK", "--top-k", "3", "--json")[1])
    assert [stage["name"] for stage in told["stages"]] == ["model", "temperature 0.8", "top-k 3"]
    assert told["stages"][-1]["kept"] == 3


def test_what_rich_would_read_as_a_style_or_an_emoji_is_shown_as_it_is(
    typed: Typed, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a[/] b[#] " * 200)
    plan = Plan.of({"hidden_size": 16, "seq_len": 16, "batch_size": 4, "steps": 2, "tokenizer": "bytebpe"})
    for _ in job.train(plan, Corpus.open([text]), out=tmp_path / "run", cache_dir=tmp_path / "cache"):
        pass
    line = ["explain", tmp_path / "run", "--top", "500", "--prompt", "[b]", "--html", "a.html"]
    assert {b"[/]", b"[#]"} <= {*charlm.load(tmp_path / "run").tokenizer.tokens}
    code, out, error = typed(*line)
    assert code == 0, error
    for shown in (out, Path("a.html").read_text(encoding="utf-8")):
        assert all(words in html.unescape(shown) for words in ("after '[b]'", "'[/]'", "'[#]'"))
    rows = table("run")
    rows.add_row(":key:[/]")
    show(rows)
    assert ":key:[/]" in capfd.readouterr().out


def test_with_temperature_0_one_token_is_left(typed: Typed, trained: Path) -> None:
    told = json.loads(typed("explain", trained, "--temperature", "0", "--json")[1])
    assert (told["stages"][-1]["kept"], max(told["stages"][-1]["probabilities"])) == (1, 1.0)
