"""The engine process: frames in on stdin, frames out on stdout.

Also works at the end of `ssh host python -m microscope.engine`.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

    from microscope.engine.server import Engine


def take_stdout() -> BinaryIO:
    """Move the real stdout aside, and let everything that prints go to stderr.

    A library's print into the stream of frames would end the connection.
    """
    frames = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    sys.stdout = sys.stderr
    return frames


def main(arguments: list[str] | None = None) -> None:
    """Run an engine until its stdin ends."""
    parser = argparse.ArgumentParser(prog="microscope.engine", description=__doc__)
    parser.add_argument("--fake", action="store_true", help="an engine without weights")
    options = parser.parse_args(arguments)
    frames = take_stdout()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    from microscope.engine.server import serve

    try:
        serve(_engine(is_fake=options.fake), sys.stdin.buffer, frames)
    except BrokenPipeError:
        logging.getLogger(__name__).info("the window is gone")
    # The reading thread may still hold stdin; nothing is left to be flushed or closed.
    os._exit(0)


def _engine(*, is_fake: bool) -> Engine:
    if is_fake:
        from microscope.engine.fake import FakeEngine

        return FakeEngine()
    from microscope.engine.model_engine import ModelEngine

    return ModelEngine()


if __name__ == "__main__":
    main()
