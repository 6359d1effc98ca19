"""`microscope sae inspect`: what a file or folder of SAEs is, as JSON."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from microscope.cli.output import write_json

if TYPE_CHECKING:
    import argparse


def run(options: argparse.Namespace) -> int:
    """Look at the path and print the facts; the one action there is is `inspect`.

    Raises:
        SaeUnreadable: there is no SAE, or it cannot be opened.
    """
    inspecting = import_module("microscope.engine.saes.inspecting")
    saes = inspecting.inspect_saes(options.path)
    write_json({"path": options.path, "saes": saes}, options.json)
    return 0
