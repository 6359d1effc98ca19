"""Dispatch: which command runs, and how it ends."""

from __future__ import annotations

import logging
import sys
from importlib import import_module
from typing import TYPE_CHECKING, cast

from microscope.cli.arguments import parse
from microscope.core.errors import UserError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

EXIT_USER_ERROR = 2


def run(arguments: list[str]) -> int:
    """Run a command line; 0, or 2 with a sentence on stderr for what the user can mend."""
    options = parse(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    try:
        return command_of(options.command)(options)
    except UserError as error:
        sys.stderr.write(f"microscope: {error}\n")
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        return 130


def command_of(name: str) -> Callable[[argparse.Namespace], int]:
    """The command's function; its module, and what that needs, is imported only now."""
    module = import_module(f"microscope.cli.{name}_command")
    return cast("Callable[[argparse.Namespace], int]", module.run)
