"""`charlm archs` and `charlm presets`: what there is to choose from."""

from __future__ import annotations

from charlm.cli.console import out, table


def archs() -> None:
    """List the architectures."""
    from charlm import archs

    shown = table("--arch", "what it is")
    for name in archs.names():
        shown.add_row(name, archs.summary(name).rstrip("."))
    out.print(shown, markup=False)


def presets() -> None:
    """List the presets: named settings for charlm train --preset."""
    from charlm import presets

    shown = table("--preset", "what it is")
    for name in presets.names():
        shown.add_row(name, presets.description(name))
    out.print(shown, markup=False)
