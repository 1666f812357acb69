"""Named settings in TOML files. The `description` of a file says where its numbers come from."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from charlm.errors import SettingsError


def read_settings(path: Path) -> dict[str, Any]:
    """The settings in a TOML file of plain `name = value` lines, on top of those of the preset that it names as its
    `base`. Raises `SettingsError` if it is not one, and for a base that is no preset."""
    values = {name.replace("-", "_"): value for name, value in parse(path).items() if name != "description"}
    base = values.pop("base", None)
    return values if base is None else read(str(base)) | values


def has_base(path: Path) -> bool:
    """Whether the settings in a file are on top of a preset's."""
    return "base" in parse(path)


def parse(path: Path) -> dict[str, Any]:
    """All values of such a file, `description` too."""
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} is no TOML: {error}") from None
    tables = [name for name, value in values.items() if isinstance(value, dict)]
    if tables:
        raise SettingsError(f"{path} has a table [{tables[0]}]; settings are plain lines such as: layers = 2")
    return values


def names() -> list[str]:
    return sorted(path.stem for path in Path(__file__).parent.glob("*.toml"))


def file(name: str) -> Path:
    """The file of a preset. Raises `SettingsError` for an unknown name."""
    if name not in names():
        sizes = [other for other in names() if name and other.startswith(name)]
        raise SettingsError(f"no preset {name!r}; choose from {', '.join(sizes or names())}")
    return Path(__file__).with_name(f"{name}.toml")


def read(name: str) -> dict[str, Any]:
    return read_settings(file(name))


def description(name: str) -> str:
    return str(parse(file(name))["description"])
