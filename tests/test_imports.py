"""Who may import whom, read from the source, and what a light command must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from charlm import archs

ROOT = Path(__file__).parents[1] / "charlm"

# A room may use the rooms below it, never one above or beside it.
FLOORS = [
    {"errors", "launch", "progress", "score"},
    {"interval", "files", "discovery"},
    {"lessons", "config"},
    {"timer", "energy", "inspection", "states", "text", "presets"},
    {"stepping", "sampling.settings", "sampling.stream", "sampling.noise"},
    {"model"},
    {"quantize", "prune", "evaluate", "work", "recording"},
    {"archs", "objectives", "device", "baselines"},
    {"kinds"},
    {"plan", "text.check"},
    {"training", "sampling"},
    {"runs"},
    {"writer", "pretrained", "exporting"},
    {"written", "scoring", "events", "processes", "forecast", "asking"},
    {"course", "inside", "pruning", "signals"},
    {"job", "serving"},
    {"comparing"},
    {"views"},
    {"api"},
    {"cli"},
    {"__main__"},
]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        yield name, ast.parse(path.read_text(encoding="utf-8"))


def imports(tree: ast.AST) -> Iterator[str]:
    """Modules of ours that a file imports, without the leading `charlm.`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "charlm":
            yield from (alias.name for alias in node.names if alias.name != "__version__")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("charlm."):
            module = str(node.module).removeprefix("charlm.")
            inner = [f"{module}.{alias.name}" for alias in node.names]
            yield from ([name for name in inner if name in NAMES] or [module])
        elif isinstance(node, ast.Import):
            yield from (alias.name.removeprefix("charlm.") for alias in node.names if alias.name.startswith("charlm."))


def room(module: str) -> str:
    named = [name for floor in FLOORS for name in floor if module == name or module.startswith(name + ".")]
    return max(named, key=len, default=module)


def floor(name: str) -> int:
    return next(i for i, floor in enumerate(FLOORS) if name in floor)


NAMES = {name for name, _ in modules()}
MODULES = [(name, tree) for name, tree in modules() if name != "__init__"]


def test_imports_of_every_form_are_seen() -> None:
    lines = ["import torch, charlm.job", "from charlm import plan, __version__", "from charlm.text import store, X"]
    assert list(imports(ast.parse("\n".join(lines)))) == ["job", "plan", "text.store"]
    assert list(imports(ast.parse("def f():\n  from charlm.text.corpus import Corpus"))) == ["text.corpus"]


def test_imports_go_down_the_house() -> None:
    for name, tree in MODULES:
        for used in imports(tree):
            if (here := room(name)) != (there := room(used)):
                assert floor(there) < floor(here), f"charlm.{name} imports charlm.{used}"


def test_an_architecture_never_imports_another() -> None:
    trees = [tree for name, tree in MODULES if name.startswith("archs.")]
    assert len(trees) > len(archs.names())
    for tree in trees:
        assert [used for used in imports(tree) if used.startswith("archs.") and not used.startswith("archs._")] == []


def test_rich_and_typer_stay_where_people_look() -> None:
    users: dict[str, set[str]] = {"rich": set(), "typer": set(), "click": set()}
    for name, tree in MODULES:
        used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        used |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        for package in users.keys() & {top.partition(".")[0] for top in used}:
            users[package].add(name.partition(".")[0])
    assert users == {"rich": {"views", "cli"}, "typer": {"cli"}, "click": set()}


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["runs"],
        ["archs"],
        ["presets"],
        ["corpus", "list"],
        ["learn"],
        ["learn", "1"],
        ["corpus", "make", "dates", "--pairs", "9"],
        ["sample", "--help"],
        ["attend", "--help"],
        ["--version"],
    ],
)
def test_light_commands_do_not_import_torch(command: list[str]) -> None:
    code = f"import sys; from charlm.cli.app import run; run({command!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def loaded(code: str) -> set[str]:
    """The modules that a fresh Python holds after `code`."""
    told = f"import sys\n{code}\nsys.stderr.write(' '.join(sys.modules))"
    return set(subprocess.run([sys.executable, "-c", told], capture_output=True, text=True).stderr.split())


def test_the_help_page_loads_no_command_and_at_most_twice_what_typer_and_rich_are() -> None:
    page = loaded("from charlm.cli.app import run; run(['--help'])")
    of_the_page = {"cli.app", "cli.commands", "cli.options", "cli.page", "views.console"}
    rooms = ("charlm.cli.", "charlm.views.")
    assert {name for name in page if name.startswith(rooms)} == {f"charlm.{name}" for name in of_the_page}
    assert page & {"numpy", "filelock", "rich.markdown", "rich.traceback", "rich.progress", "pygments"} == set()
    assert len(page) <= 2 * len(loaded("import typer, rich"))


def test_the_core_is_short_enough_to_read_over_coffee() -> None:
    """Interfaces, objectives, evaluation, training, sampling of a text, and the first four architectures with all that
    they share. Left out are translation, several processes, recording, looking inside, the architectures and
    objectives that are variations, and what is an option of the others and has files of its own."""
    others = {"beam", "lines", "translate", "restore", "decode", "together", "sharding", "recorder", "_inside"}
    others |= {"unrolled", "faster", "_graph", "bert", "masked", "_units", "denoise", "span", "_restoring"}
    others |= {"classify", "_classifier", "distill", "distill_masked", "_taught", "replaced", "_detector", "_hiding"}
    others |= {"encdec", "gru", "rnn", "transformer_xl", "_relative", "_relative_steppers"}
    others |= {"reformer", "_lsh", "_reversible", "_patterns", "_rules", "_sparse", "_experts", "_copy"}
    others |= {"word2vec", "skipgram", "xlnet", "permute", "elmo", "_way", "two_way"}
    rooms = [path for room in ("objectives", "training", "sampling", "archs") for path in (ROOT / room).glob("*.py")]
    core = [ROOT / "model.py", ROOT / "evaluate.py", *(path for path in rooms if path.stem not in others)]
    lines = sum(len(path.read_text(encoding="utf-8").splitlines()) for path in core)
    assert lines < 4200, lines


def test_no_file_is_a_shed() -> None:
    files = list(ROOT.rglob("*.py"))
    assert len(files) > 100
    for path in files:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
