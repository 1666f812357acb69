"""Who may import whom, read from the source, and what a light command must not load."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1] / "charlm"

# A room may use the rooms below it, never one above or beside it.
FLOORS = [
    {"errors", "progress"},
    {"config", "files"},
    {"timer", "model", "text", "presets", "sampling.settings", "sampling.stream"},
    {"quantize"},
    {"archs", "objectives", "device", "baselines"},
    {"plan"},
    {"training", "sampling"},
    {"runs"},
    {"writer"},
    {"scoring", "events", "glimpse"},
    {"job", "inside", "translation"},
    {"compare"},
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


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_imports_go_down_the_house(name: str, tree: ast.Module) -> None:
    for used in imports(tree):
        here, there = room(name), room(used)
        if here != there:
            assert floor(there) < floor(here), f"charlm.{name} imports charlm.{used}"


def test_an_architecture_never_imports_another() -> None:
    for _, tree in (module for module in MODULES if module[0].startswith("archs.")):
        assert [used for used in imports(tree) if used.startswith("archs.") and not used.startswith("archs._")] == []


@pytest.mark.parametrize(("name", "tree"), MODULES, ids=[name for name, _ in MODULES])
def test_rich_and_typer_stay_inside_the_command_line(name: str, tree: ast.Module) -> None:
    used = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    used |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    if not name.startswith("cli"):
        assert {top.partition(".")[0] for top in used} & {"rich", "typer", "click"} == set()


@pytest.mark.parametrize(
    "command",
    [
        ["--help"],
        ["runs"],
        ["archs"],
        ["presets"],
        ["corpus", "list"],
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
    page_of_our_own = {"app", "commands", "console", "options", "page"}
    assert {name for name in page if name.startswith("charlm.cli.")} == {f"charlm.cli.{n}" for n in page_of_our_own}
    assert page & {"numpy", "filelock", "rich.markdown", "rich.traceback", "rich.progress", "pygments"} == set()
    assert len(page) <= 2 * len(loaded("import typer, rich"))


def test_the_core_is_short_enough_to_read_over_coffee() -> None:
    """Interface, objectives, training loop, generator and the first four architectures with what they share.

    Not counted: faster steps for writing (`_step`, `_graph`) and what looks inside (`_traces`).
    """
    core = ["model.py", "objectives.py", "training/loop.py", "training/optim.py", "sampling/generate.py"]
    core += [f"archs/{name}.py" for name in ("lstm", "lstmcell", "seq2seq", "transformer")]
    core += [f"archs/{name}.py" for name in ("_recurrent", "_attention", "_window")]
    lines = sum(len((ROOT / name).read_text(encoding="utf-8").splitlines()) for name in core)
    assert lines < 1600, lines


def test_no_file_is_a_shed() -> None:
    for path in ROOT.rglob("*.py"):
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 300, path
