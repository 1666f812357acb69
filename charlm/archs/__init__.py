"""Architectures, one per file. The file's name is the name after `--arch`; nothing else needs an edit."""

from __future__ import annotations

import ast
import difflib
import importlib
import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING

from charlm.errors import SettingsError

if TYPE_CHECKING:
    from charlm.model import LanguageModel


def names() -> list[str]:
    """Every architecture, found by looking at the folder."""
    return sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))


def load(name: str) -> type[LanguageModel]:
    """The class in the architecture's file. Raises `SettingsError` for a name that is not there."""
    if name not in names():
        close = difflib.get_close_matches(name, names(), 1)
        hint = f" (did you mean {close[0]}?)" if close else ""
        raise SettingsError(f"unknown architecture {name!r}{hint}; choose from {', '.join(names())}")
    from charlm.model import LanguageModel

    module = importlib.import_module(f"{__name__}.{name.replace('-', '_')}")
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, LanguageModel) and value.__module__ == module.__name__
    ]
    assert len(found) == 1, f"{module.__file__} must define exactly one LanguageModel, it has {len(found)}"
    return found[0]


def summary(name: str) -> str:
    """The first line of the file's docstring, read without importing torch."""
    files = (Path(folder, name.replace("-", "_") + ".py") for folder in __path__)
    source = next(file for file in files if file.exists()).read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
