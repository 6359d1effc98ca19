"""The command line of the specimen: `python -m microscope.specimen build`."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from microscope.core.errors import UserError
from microscope.specimen.recipe import STAND_IN, TINY
from microscope.storage.shelf import specimen_folder

RECIPES = {recipe.name: recipe for recipe in (STAND_IN, TINY)}


def main(arguments: list[str] | None = None) -> int:
    """Build a specimen; returns the exit code, 2 for what the user can put right."""
    options = _parser().parse_args(arguments)
    from microscope.specimen.build import build  # torch: not for --help

    folder = options.folder or specimen_folder()
    started = time.monotonic()
    try:
        build(RECIPES[options.recipe], folder, _ProgressLine().show)
    except UserError as error:
        sys.stderr.write(f"\n{error}\n")
        return 2
    sys.stderr.write(f"\nBuilt {folder} in {time.monotonic() - started:.0f} s.\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m microscope.specimen")
    commands = parser.add_subparsers(dest="command", required=True)
    build = commands.add_parser("build", help="make the model, its SAEs and their pages")
    build.add_argument(
        "--folder", type=Path, help="where to (default: the program's own place)"
    )
    build.add_argument("--recipe", choices=sorted(RECIPES), default=STAND_IN.name)
    return parser


class _ProgressLine:
    """One line on stderr, written anew when it changes."""

    def __init__(self) -> None:
        self._line = ""

    def show(self, text: str, done: int, total: int) -> None:
        line = f"{text} {100 * done // total} %"
        if line != self._line:
            self._line = line
            sys.stderr.write(f"\r{line:<50}")
            sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
