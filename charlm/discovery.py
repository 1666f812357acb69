"""Folders of classes, one per file: a new file is found by its name, and nothing else needs an edit."""

from __future__ import annotations

import ast
import difflib
import importlib
import pkgutil
import sys
from pathlib import Path
from typing import Generic, TypeVar

from charlm.errors import SettingsError

T = TypeVar("T")


class Folder(Generic[T]):
    """The classes in a package. A file's name is its class's name on the command line, with `-` for `_`; files that
    begin with `_` are shared by the others."""

    def __init__(self, package: str, noun: str, base: str) -> None:
        """`base` names the class that all of them extend, as module:class; imported late, as it may need torch."""
        self.package, self.noun, self.base = sys.modules[package], noun, base

    def names(self) -> list[str]:
        files = (module.name for module in pkgutil.iter_modules(self.package.__path__))
        return sorted(name.replace("_", "-") for name in files if not name.startswith("_"))

    def load(self, name: str) -> type[T]:
        """The class in the file of this name. Raises `SettingsError` if there is none, or several."""
        if name not in self.names():
            close = difflib.get_close_matches(name, self.names(), 1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise SettingsError(f"unknown {self.noun} {name!r}{hint}; choose from {', '.join(self.names())}")
        home, _, base_name = self.base.partition(":")
        base: type[T] = getattr(importlib.import_module(home), base_name)
        module = importlib.import_module(f"{self.package.__name__}.{name.replace('-', '_')}")
        own = [value for value in vars(module).values() if getattr(value, "__module__", "") == module.__name__]
        classes = [value for value in own if isinstance(value, type) and issubclass(value, base)]
        if len(classes) != 1:
            named = " and ".join(value.__name__ for value in classes) or "none"
            raise SettingsError(f"{module.__file__} must define one {base_name} and defines {named}")
        return classes[0]

    def summary(self, name: str) -> str:
        """The first line of the file's docstring, read without importing it."""
        files = (Path(folder, name.replace("-", "_") + ".py") for folder in self.package.__path__)
        source = next(file for file in files if file.exists()).read_text(encoding="utf-8")
        return (ast.get_docstring(ast.parse(source)) or "").partition("\n")[0]
