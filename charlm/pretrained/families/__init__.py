"""Families of models in Hugging Face's library, one per file. Its name is the `model_type` of their config.json."""

from __future__ import annotations

from typing import TYPE_CHECKING

from charlm.discovery import Folder

if TYPE_CHECKING:
    from charlm.pretrained.families._base import Family

_folder: Folder[Family] = Folder(__name__, "model_type", "charlm.pretrained.families._base:Family")
names, load = _folder.names, _folder.load
