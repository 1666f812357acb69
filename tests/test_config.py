"""Settings: declared once, checked everywhere, merged in one order."""

from __future__ import annotations

from pathlib import Path

import pytest

from charlm import archs
from charlm.config import LONG, DataSettings, TrainSettings, check, fields_of
from charlm.errors import RunError, SettingsError
from charlm.interval import Interval
from charlm.plan import Plan, merge
from charlm.presets import read_settings
from charlm.sampling.settings import SampleSettings
from charlm.text.pair_store import PairSettings


@pytest.mark.parametrize(
    "settings", [TrainSettings, DataSettings, *[archs.load(name).Config for name in archs.names()]]
)
def test_every_number_is_refused_beyond_its_bounds_and_taken_at_them(settings: type) -> None:
    tried = 0
    for field in fields_of(settings):
        for bound, beyond, word in ((field.arg.min, -1, "least"), (field.arg.max, 1, "most")):
            if bound is None:
                continue
            tried += 1
            whole = isinstance(field.default, int) or field.type in (int, int | None)
            kind = int if whole and not isinstance(field.default, float) else float
            with pytest.raises(SettingsError, match=f"{field.flag} must be at {word}") as refused:
                settings(**{field.name: kind(bound) + kind(beyond)})
            assert refused.value.field == field.name
            check(field, kind(bound))
    assert tried >= 2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"steps": 1.5}, "--steps must be a whole number, got 1.5"),
        ({"steps": True}, "--steps must be a whole number, got True"),
        ({"lr": "fast"}, "--lr must be a number, got 'fast'"),
        ({"lr": float("inf")}, "--lr must be a finite number, got inf"),
        ({"compile": True}, "--compile must be one of auto, on, off, got True"),
        (
            {"schedule": "step"},
            "--schedule must be one of wsd, cosine, linear, inverse-sqrt, slanted, constant, got 'step'",
        ),
        ({"steps": 1, "epochs": 1.0}, "--steps and --epochs are different budgets"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named_with_what_is_allowed(values: dict[str, object], message: str) -> None:
    with pytest.raises(SettingsError) as refused:
        TrainSettings(**values)  # type: ignore[arg-type]
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "values", "field"),
    [
        (TrainSettings, {"schedule": "step"}, "schedule"),
        (TrainSettings, {"schedule": "inverse-sqrt", "warmup": 0.0}, "schedule"),
        (TrainSettings, {"steps": 1, "epochs": 1.0}, "steps"),
        (TrainSettings, {"eval_every": "often"}, "eval_every"),
        (DataSettings, {"val_frac": 0.8, "test_frac": 0.8}, "val_frac"),
        (DataSettings, {"alphabet": "printable", "tokenizer": "byte"}, "alphabet"),
        (PairSettings, {"alphabet": "printable"}, "alphabet"),
        (SampleSettings, {"temperature": "hot"}, "temperature"),
        (archs.load("lstm").Config, {"tied": True, "embedding_size": 5}, "tied"),
        (archs.load("transformer").Config, {"hidden_size": 30, "heads": 4}, "hidden_size"),
        (archs.load("transformer").Config, {"hidden_size": 12, "heads": 4}, "positions"),
    ],
)
def test_an_error_says_which_field_it_is_about(settings: type, values: dict[str, object], field: str) -> None:
    with pytest.raises(SettingsError) as refused:
        settings(**values)
    assert refused.value.field == field
    told = refused.value.at("mine.toml")
    assert (type(told), told.field, str(told)) == (SettingsError, field, f"mine.toml: {refused.value}")


def test_a_setting_that_an_architecture_lacks_is_the_errors_field() -> None:
    for settings in ({"layrs": 2}, {"share_vocab": True}):
        with pytest.raises(SettingsError) as refused:
            Plan.of(settings)
        assert refused.value.field in settings


@pytest.mark.parametrize(
    ("text", "interval"),
    [("500", (500, None)), ("30s", (None, 30)), ("2m", (None, 120)), ("1.5h", (None, 5400)), ("auto", (None, None))],
)
def test_intervals_are_steps_or_times(text: str, interval: tuple[int | None, float | None]) -> None:
    assert tuple(Interval.parse("--eval-every", text, auto=True)) == interval


@pytest.mark.parametrize("text", ["", "0", "-3", "m", "nanm", "2d", "1.5", "infs"])
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="--save-every must be a number of steps"):
        Interval.parse("--save-every", text)


def test_a_later_budget_replaces_an_earlier_one_of_another_kind() -> None:
    assert merge({"steps": 5, "lr": 1.0}, {"minutes": 2}) == {"lr": 1.0, "minutes": 2}
    assert Plan.of({"steps": 10}, {"epochs": 1.0}).train.steps is None


def test_without_a_budget_a_training_takes_five_minutes() -> None:
    plan = Plan.of({})
    assert (plan.train.minutes, plan.train.steps, plan.train.epochs) == (5.0, None, None)


def test_a_long_budget_has_a_recipe_of_its_own() -> None:
    kind = archs.load("transformer")
    assert kind.recipes["long"]
    for name, value in kind.recipes["long"].items():
        short, long = (Plan.of({"arch": "transformer", "minutes": m}).to_dict() for m in (LONG / 2, LONG))
        group = next(part for part in ("model", "train") if name in short[part])
        assert long[group][name] == value != short[group][name]
    assert (
        Plan.of({"arch": "transformer", "steps": 10**9}).model == Plan.of({"arch": "transformer"}).model
    )  # nobody knows how long that takes
    assert Plan.of({"arch": "transformer", "minutes": LONG, "dropout": 0.3}).model.to_dict()["dropout"] == 0.3


def test_the_recipe_stands_between_the_defaults_and_what_is_typed() -> None:
    for name in archs.names():
        recipe = archs.load(name).recipes.get("text", {})
        plan = Plan.of({"arch": name})
        for key, value in recipe.items():
            assert [getattr(part, key) for part in (plan.train, plan.model, plan.data) if hasattr(part, key)] == [value]
        assert Plan.of({"arch": name}, {"lr": 0.123}).train.lr == 0.123


def test_a_plan_survives_its_json() -> None:
    for name in archs.names():
        plan = Plan.of({"arch": name, "steps": 3, "tokenizer": "byte"})
        assert Plan.from_dict(plan.to_dict()) == plan
    with pytest.raises(RunError, match=r"config.json does not describe a run of this charlm"):
        Plan.from_dict({"arch": "lstm", "model": {"wings": 2}, "train": {}, "data": {}})


@pytest.mark.parametrize(
    ("text", "message"),
    [("a = = 1", "is no TOML"), ("[model]\nlayers = 2", r"has a table \[model\]; settings are plain lines")],
)
def test_a_settings_file_is_plain_lines_of_toml(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_settings(path)
