"""The two commands of a checkout, each needing nothing but a Python.

    python3 packaging/dev.py run [--help | arguments of microscope]
    python3 packaging/dev.py test [--fast] [arguments of pytest]
    python3 packaging/dev.py test --interop [arguments of pytest]

The first opens the program; where there is no display it runs the same job without one and
writes a picture. The second checks style, types and imports and runs the tests, without those
marked slow if --fast is given. The third compares Microscope with the code of other programs
of its kind. All first make an environment, .venv or (the third) .venv-interop, and install
what is missing, and say so; when nothing is missing they start at once. To install everything
anew, delete that folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from steps import StepFailed, output_of_failed, say, write
from system_libraries import provide_system_libraries
from virtual_environment import VirtualEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ROOT = Path(__file__).resolve().parents[1]
OLDEST, NEWEST = (3, 11), (3, 13)
# Subcommands and options of the program that open no window.
SCREENLESS = (
    *("read", "generate", "snapshot", "doctor", "sae", "library", "labels"),
    *("--help", "-h", "--version"),
)
TEST_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "QT_QPA_PLATFORM": "offscreen",
    "PYTHONFAULTHANDLER": "1",
}


def main(arguments: Sequence[str]) -> int:
    """Run one of the two commands and return the process's exit code."""
    commands: dict[str, Callable[[Sequence[str]], int]] = {"run": run, "test": test}
    command = commands.get(arguments[0]) if arguments else None
    if command is None:
        write((__doc__ or "").strip())
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2
    complaint = complaint_about(sys.version_info[:2])
    if complaint:
        write(complaint)
        return 1
    try:
        return command(arguments[1:])
    except StepFailed as failure:
        if failure.tail:
            write(failure.tail)
        say(str(failure))
        return 1
    except KeyboardInterrupt:
        say("Stopped")
        return 130


def complaint_about(version: tuple[int, int]) -> str | None:
    """What to tell a user whose Python is too old or too new; None if it will do."""
    if OLDEST <= version <= NEWEST:
        return None
    others = (f"python3.{minor}" for minor in range(NEWEST[1], OLDEST[1] - 1, -1))
    found = next((name for name in others if is_runnable(name)), None)
    advice = f"Run this with {found}." if found else "Install one of them and run this with it."
    return (
        f"Microscope needs Python 3.{OLDEST[1]} to 3.{NEWEST[1]}; {sys.executable} is "
        f"{version[0]}.{version[1]}. {advice}"
    )


def is_runnable(python: str) -> bool:
    """Whether the name starts a Python; some names only lead to a version switcher."""
    return bool(shutil.which(python)) and output_of_failed([python, "-c", ""]) is None


def run(arguments: Sequence[str]) -> int:
    """Open the program, or do its job without a display."""
    environment = VirtualEnvironment(ROOT)
    environment.provide("run")
    provide_system_libraries(os.environ)
    program = [str(environment.python), "-m", "microscope"]
    if has_display(sys.platform, os.environ) or (arguments and arguments[0] in SCREENLESS):
        return become([*program, *arguments])
    return take_picture(program, arguments)


def has_display(platform: str, environ: Mapping[str, str]) -> bool:
    """Whether a window can be shown; only on Linux may there be nothing to show it on."""
    if not platform.startswith("linux"):
        return True
    return bool(environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY"))


def become(command: list[str]) -> int:
    """Go on as another program; where that cannot be (Windows), start it and wait."""
    if os.name != "nt":
        os.execv(command[0], command)
    return subprocess.call(command)


def take_picture(program: Sequence[str], arguments: Sequence[str]) -> int:
    """Run the default prompt in a window that is drawn into a PNG."""
    picture = ROOT / "microscope.png"
    say("There is no display: drawing the window into a picture instead")
    command = [*program, "snapshot", "--out", str(picture), "--print-texts", *arguments]
    code = subprocess.call(command, env={**os.environ, "QT_QPA_PLATFORM": "offscreen"})
    if code == 0:
        say(f"The picture of the window is {picture_path(arguments) or picture}")
    else:
        say(f"No picture was made; exit code {code}")
    return exit_code(code)


def picture_path(arguments: Sequence[str]) -> Path | None:
    """Where the user asked for the picture; None if they did not."""
    asked = None
    for index, argument in enumerate(arguments):
        if argument == "--out" and index + 1 < len(arguments):
            asked = arguments[index + 1]
        elif argument.startswith("--out="):
            asked = argument[len("--out=") :]
    return Path(asked).absolute() if asked else None


def test(arguments: Sequence[str]) -> int:
    """Run every check, also after one has failed, and sum up."""
    is_interop = "--interop" in arguments
    environment = interop_environment(ROOT) if is_interop else VirtualEnvironment(ROOT)
    environment.provide("test")
    provide_system_libraries({})
    results = []
    for name, command in (interop_checks if is_interop else checks)(environment, arguments):
        say(name)
        started = time.monotonic()
        code = subprocess.call(command, cwd=ROOT, env={**os.environ, **TEST_ENVIRONMENT})
        results.append((name, code, time.monotonic() - started))
    write(summary(results))
    return 1 if any(code for _, code, _ in results) else 0


def checks(
    environment: VirtualEnvironment, arguments: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """Name and command of each check; `arguments` are for pytest, but for --fast."""
    module = [str(environment.python), "-m"]
    fast = ["-m", "not slow"] if "--fast" in arguments else []
    chosen = [argument for argument in arguments if argument != "--fast"]
    return [
        ("ruff check", [*module, "ruff", "check", "."]),
        ("ruff format", [*module, "ruff", "format", "--check", "."]),
        ("mypy", [*module, "mypy"]),
        ("lint-imports", [str(environment.program("lint-imports"))]),
        ("pytest", [*module, "pytest", *fast, *chosen]),
    ]


def interop_environment(root: Path) -> VirtualEnvironment:
    """An environment of its own, so that what the other programs ask for never touches ours."""
    lists = root / "packaging"
    return VirtualEnvironment(
        root,
        ".venv-interop",
        beside=lists / "interop.txt",
        alone=lists / "interop_alone.txt",
    )


def interop_checks(
    environment: VirtualEnvironment, arguments: Sequence[str]
) -> list[tuple[str, list[str]]]:
    """The comparison with other programs; `arguments` are for pytest, but for --interop."""
    chosen = [argument for argument in arguments if argument != "--interop"]
    pytest = [str(environment.python), "-m", "pytest", "-m", "interop", "tests/interop"]
    return [("interop", [*pytest, *chosen])]


def summary(results: Sequence[tuple[str, int, float]]) -> str:
    """A table of (name, exit code, seconds), and a last line that says it in words."""
    lines = [
        f"{name:<14}{'FAILED' if code else 'ok':<8}{seconds:7.1f} s"
        for name, code, seconds in results
    ]
    failed = [name for name, code, _ in results if code]
    verdict = f"Failed: {', '.join(failed)}." if failed else "All checks are green."
    return "\n".join(["", *lines, verdict])


def exit_code(code: int) -> int:
    """A child's exit code as our own: one that a signal ended counts as 128 + signal."""
    return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
