"""How a development command talks: a line for each step, and the end of a failed one's output.

Parses on Pythons older than the program needs, like all of its neighbours, so that those too
are told in a sentence what is wrong.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

TAIL_LINES = 25
_STARTED = time.monotonic()
_NETWORK_SIGNS = (
    "Retrying (Retry(",
    "ConnectionError",
    "ConnectionResetError",
    "NewConnectionError",
    "ProtocolError",
    "IncompleteRead",
    "ReadTimeoutError",
    "ConnectTimeoutError",
    "Read timed out",
    "timed out",
    "Temporary failure in name resolution",
    "Temporary failure resolving",
    "Could not connect to",
    "Connection failed",
)


class StepFailed(Exception):
    """A step that could not be done; `str(error)` is a sentence, `tail` what was printed."""

    def __init__(self, sentence: str, tail: str = "") -> None:
        super().__init__(sentence)
        self.tail = tail


def say(text: str) -> None:
    """Print one line, with the seconds since the command started."""
    write(f"[{time.monotonic() - _STARTED:6.1f} s] {text}")


def write(text: str) -> None:
    """Print a line at once, so that it stands before what the next command prints."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def tail_of(output: str) -> str:
    """The last lines of a command's output, indented."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    return "\n".join(f"    {line}" for line in lines[-TAIL_LINES:])


def is_network_failure(output: str) -> bool:
    """Whether the output of pip or apt-get reads as if the network had failed."""
    return any(sign in output for sign in _NETWORK_SIGNS)


def errors_of(
    command: Sequence[str], *, folder: Path | None = None, env: Mapping[str, str] | None = None
) -> str | None:
    """Run a command with its progress shown; None, or the errors it printed when it failed.

    Standard output goes straight to the terminal, which is what makes pip draw its bars.
    """
    done = subprocess.run(
        command,
        cwd=folder,
        env=env,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        check=False,
    )
    return None if done.returncode == 0 else done.stderr or f"exit code {done.returncode}"


def succeeds(command: Sequence[str]) -> bool:
    """Run a command with all that it prints shown."""
    try:
        return subprocess.call(command) == 0
    except OSError as error:
        write(f"    {error}")
        return False


def output_of_failed(
    command: Sequence[str], env: Mapping[str, str] | None = None
) -> str | None:
    """Run a command quietly; None, or everything it printed when it failed."""
    try:
        done = subprocess.run(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return str(error)
    return None if done.returncode == 0 else done.stdout or f"exit code {done.returncode}"
