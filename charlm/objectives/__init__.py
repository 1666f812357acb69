"""Objectives, one per file: what a network is trained for. The file's name is the name after `--objective`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlm.discovery import Folder

if TYPE_CHECKING:
    from charlm.model import Network
    from charlm.objectives._base import Objective

_folder: Folder[Objective] = Folder(__name__, "objective", "charlm.objectives._base:Objective")
names, load, summary = _folder.names, _folder.load, _folder.summary


def suitable(kind: str, network: type[Network]) -> list[str]:
    """The objectives for this kind of data that a network is able to be trained for, its own first."""
    able = [name for name in names() if load(name).kind == kind and load(name).suits(network)]
    return sorted(able, key=lambda name: (name != network.objective, name))


def of_command(command: str) -> set[str]:
    """The objectives on running text whose runs are for this command; of an empty one, those that go on with a text."""
    loaded = {name: load(name) for name in names()}
    return {name for name, one in loaded.items() if (one.kind, one.command) == ("text", command)}
