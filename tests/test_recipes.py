"""What a training takes as its defaults: by architecture, kind of data, budget and class of device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from charlm import archs, kinds, objectives, presets
from charlm.asking import device_of_recipe, make_plan, settings_layers
from charlm.comparing.contest import Contest
from charlm.config import LONG, DataSpec, TrainSettings, fields_of
from charlm.events import Started
from charlm.model import parameter_count
from charlm.plan import Plan, device_of, kinds_for, recipe
from charlm.runs.origin import Origin
from charlm.views.training import start_summary

LEARNABLE = [(arch, kind) for arch in archs.names() for kind in kinds_for(arch)]
every_way = pytest.mark.parametrize(("arch", "kind"), LEARNABLE)
BUDGETS = (5.0, LONG)


def plan_of(arch: str, kind: str = "text", on: str = "cuda", **settings: Any) -> Plan:
    return Plan.of({"arch": arch, **settings}, kind=kind, on=on)


def size(plan: Plan) -> int:
    """Parameters with 65 tokens, as Tiny Shakespeare has characters."""
    return parameter_count(plan.outline(DataSpec(65, plan.lengths)))


@every_way
def test_a_gpu_gets_a_larger_network_of_moderate_size_and_all_get_as_many_rows(arch: str, kind: str) -> None:
    """But for labelled texts, which are few: they are learnt from alike everywhere."""
    if kind == "labels":
        assert plan_of(arch, kind, "cuda") == plan_of(arch, kind, "cpu")
        return
    for minutes in BUDGETS:
        small, large = (plan_of(arch, kind, on, minutes=minutes) for on in ("cpu", "cuda"))
        assert size(small) < size(large) < 15e6
        if kind == "text":
            assert large.train.batch_size == 64
        else:
            assert large.data.to_dict()["batch_tokens"] == 8192


@every_way
def test_a_recipe_holds_settings_that_the_training_has(arch: str, kind: str) -> None:
    """Others would be ignored without a word."""
    network, data = archs.load(arch), kinds.load(kind)
    groups = (network.Config, TrainSettings, data.Settings, objectives.load(objectives.suitable(data.rows, network)[0]))
    known = {field.name for group in groups for field in fields_of(group)}
    for on in ("cpu", "cuda"):
        for long in (False, True):
            assert {*recipe(network, data, on, long=long)[1]} <= known
    names = {*(other.name() for other in kinds.all_kinds()), *(other.long for other in kinds.all_kinds() if other.long)}
    assert {name.removesuffix(" on cuda") for name in network.recipes} <= names


def test_a_long_training_on_a_gpu_drops_more_and_knows_nothing_of_a_cpus_recipe_for_it() -> None:
    for arch in ("lstm", "transformer"):
        short, long = (plan_of(arch, minutes=minutes) for minutes in BUDGETS)
        differing = {
            name
            for part in ("model", "train")
            for name, value in long.to_dict()[part].items()
            if value != short.to_dict()[part][name]
        }
        assert {"minutes"} < differing <= {"minutes", "dropout", "weight_drop"}
        assert long.model.to_dict()["dropout"] >= short.model.to_dict()["dropout"]
        assert long.recipe == "text on cuda, long on cuda"


def test_what_is_given_stands_above_the_recipe_of_the_device() -> None:
    plan = plan_of("transformer", hidden_size=64, lr=0.1, batch_size=3)
    assert (plan.model.to_dict()["hidden_size"], plan.train.lr, plan.train.batch_size) == (64, 0.1, 3)
    assert plan.model.to_dict()["layers"] == 6


def test_the_recipe_is_that_of_the_device_that_auto_becomes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert device_of({}) == "cpu"
    assert device_of({"device": "cuda"}) == "cuda", "whether or not there is one"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of({}) == device_of({"device": "cpu"}, {"device": "auto"}) == "cuda"
    assert device_of({"device": "cpu"}) == "cpu"
    assert plan_of("lstm", on="mps") == plan_of("lstm", on="cpu")


def planned(
    text: Path, preset: str | None = None, config: Path | None = None, origin: Origin | None = None, **typed: Any
) -> Plan:
    """What `charlm train` makes of these."""
    layers = settings_layers(preset, config)
    on = device_of_recipe(preset, config, origin, [*layers.values(), typed])
    return make_plan([*layers.values(), typed], [str(text)], None, None, origin, on)[0]


def on_cuda_and_cpu(text: Path, **settings: Any) -> list[dict[str, Any]]:
    plans = [planned(text, **settings, device=device).to_dict() for device in ("cuda", "cpu")]
    for plan in plans:
        del plan["train"]["device"]
    return plans


@pytest.mark.parametrize("name", ["nanogpt-char", "xl-tiny", "large"])
def test_a_preset_means_the_same_on_every_device(name: str, verses: Path, tmp_path: Path) -> None:
    cuda, cpu = on_cuda_and_cpu(verses, preset=name)
    assert cuda == cpu
    built = tmp_path / "mine.toml"
    built.write_text(f'base = "{name}"\nlr = 0.5\n')
    cuda, cpu = on_cuda_and_cpu(verses, config=built)
    assert cuda == cpu


def test_so_does_a_run_to_start_from(verses: Path, trained: Path) -> None:
    cuda, cpu = on_cuda_and_cpu(verses, origin=Origin(trained))
    assert cuda == cpu


def test_a_file_of_settings_stands_above_the_recipe_of_the_device(verses: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.toml"
    mine.write_text('arch = "transformer"\nlr = 0.5\ndevice = "cuda"\n')
    plan = planned(verses, config=mine)
    assert plan == plan_of("transformer", lr=0.5, device="cuda")


def test_a_run_says_by_which_recipe_a_gpu_trains_it_and_keeps_its_settings() -> None:
    plan = plan_of("transformer", minutes=LONG)
    again = Plan.from_dict(plan.to_dict())
    assert (again, again.recipe) == (plan, plan.recipe)
    said = start_summary(Started(Path("r"), plan, 1, 1, {}, 65, "a GPU"))
    assert "\nrecipe: text on cuda, long on cuda, as no preset is given; --help shows its settings\n" in said
    assert "recipe" not in start_summary(Started(Path("r"), plan_of("lstm", on="cpu"), 1, 1, {}, 65, "the CPU"))


def test_a_gpu_that_is_not_there_is_refused_before_anything_is_written(typed: Any, verses: Path) -> None:
    for command in (["train"], ["compare", "--arch", "lstm,gru"]):
        code, _, said = typed(*command[:1], verses, *command[1:], "--device", "cuda")
        assert (code, said) == (2, "charlm: --device cuda is not available here; use auto or cpu\n")
        assert not Path("runs").exists()


def test_entrants_of_a_comparison_on_a_gpu_have_as_many_rows() -> None:
    names = [name for name in archs.names() if "text" in kinds_for(name)]
    contest = Contest.of([*names, "gpt2-tiny", "lstm:lr=0.5"], "time", 1, {"device": "cuda"})
    *plans, preset, _ = contest.drafts
    assert {plan.train.batch_size for plan in contest.drafts} == {64}
    assert plans == [plan_of(name, device="cuda", minutes=2.0) for name in names]
    assert preset.model == Plan.of(presets.read("gpt2-tiny")).model
    pairs = Contest.of(["seq2seq", "encdec"], "time", 1, {"device": "cuda"}, kind="pairs")
    assert {plan.data.to_dict()["batch_tokens"] for plan in pairs.drafts} == {8192}
    given = Contest.of(["lstm", "gru"], "time", 1, {"device": "cuda", "batch_size": 5})
    assert {plan.train.batch_size for plan in given.drafts} == {5}
