"""charlm: train recurrent networks and transformers on a text file, and write new text with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from charlm.api.run import Run
    from charlm.comparing.run import Comparison
    from charlm.views.shown import Result

__all__ = ["__version__", "compare", "load", "train"]
__version__ = "0.2.0"


def load(run: str | Path = "last", **opening: Any) -> Run:
    """Open a trained run for writing, scoring and looking inside: a path, a name under `runs/`, `last` or `best`.

    Keywords are the fields of `charlm.runs.opening.Opening`: `weights` is `best` (lowest validation loss, the default)
    or `last` (where training stopped); `device` is `auto`, `cpu`, `cuda` or `mps`; `quantize="int8"` rounds the weights
    to 8 bits, so that a large transformer writes faster on a CPU. Raises `RunError` if there is no such run or it is
    damaged, and `SettingsError` for other values, and where int8 would gain nothing.
    """
    from charlm.api.run import load

    return load(run, **opening)


def train(text: Any = None, **settings: Any) -> Run:
    """Train on a file, a folder, a pattern or a list of files, show how it goes, and open the run.

    `settings` are the options of `charlm train` as keywords: `minutes=1`, `arch="lstm"`, `hidden_size=256`, `preset`,
    `config`, `init_from`, `out`, and so on; `quiet=True` shows nothing. `resume=RUN` goes on with a run, as does the
    command. An interrupt (Ctrl-C, or the notebook's stop button) saves, and returns the run as it is then.

    Raises `SettingsError` for settings that do not fit, `CorpusError` for a text that cannot be read, and `RunError` if
    the folder `out` holds a run. Messages name keywords.
    """
    from charlm.api.training import train

    return train(text, **settings)


def compare(*what: Any, **settings: Any) -> Result[Comparison]:
    """Train several architectures on a text and compare them, or compare runs that are there.

    `settings` are the options of `charlm compare` as keywords: `arch="lstm,transformer"`, `minutes=1`, `seeds=3`,
    `match`, `jobs`, `target_bits`, `text`, `pairs`, `out`; `quiet=True` shows no progress. The result has a table, a
    verdict and curves; `to_dict()` is the command's `--json`. Trainings run in processes of their own, so a script that
    calls this must guard it by `if __name__ == "__main__":`. Raises as `train` does.
    """
    from charlm.api.comparing import compare

    return compare(*what, **settings)
