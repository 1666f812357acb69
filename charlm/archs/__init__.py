"""Architectures, one per file. The file's name is the name after `--arch`; nothing else needs an edit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlm.discovery import Folder

if TYPE_CHECKING:
    from charlm.model import Network

_folder: Folder[Network] = Folder(__name__, "architecture", "charlm.model:Network")
names, load, summary = _folder.names, _folder.load, _folder.summary
