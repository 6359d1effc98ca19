"""A checkout's virtual environment: made when missing, completed when incomplete, else left."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

from debian_packages import has_apt, install_packages
from steps import (
    StepFailed,
    errors_of,
    is_network_failure,
    output_of_failed,
    say,
    succeeds,
    tail_of,
)
from torch_build import TORCH_VERSION, has_nvidia_gpu, routes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import Literal

    from torch_build import Route

    Purpose = Literal["run", "test"]

PYTHON = f"{sys.version_info[0]}.{sys.version_info[1]}"
EXTRAS = {"run": "", "test": "[dev]"}
# Prints the version of a torch that is wholly there: pip writes RECORD last of all.
_TORCH_PROBE = (
    "import importlib.metadata as m; d = m.distribution('torch'); "
    "print(d.version if d.read_text('RECORD') else '')"
)


class VirtualEnvironment:
    """An environment of one checkout, with the stamp that says what it was completed for."""

    def __init__(
        self,
        root: Path,
        name: str = ".venv",
        *,
        beside: Path | None = None,
        alone: Path | None = None,
    ) -> None:
        """Describe the environment in the folder `name`; nothing is made yet.

        Args:
            root: the checkout.
            name: the environment's folder in it.
            beside: a list of packages for pip to install together with the program.
            alone: one of packages to be installed after them, without what they ask for.
        """
        self.root = root
        self.folder = root / name
        self._beside = beside
        self._alone = alone
        self.stamp = self.folder / "microscope.json"

    @property
    def python(self) -> Path:
        """The interpreter inside."""
        return self._programs / ("python.exe" if os.name == "nt" else "python")

    def program(self, name: str) -> Path:
        """A command that a package installed."""
        return self._programs / (f"{name}.exe" if os.name == "nt" else name)

    @property
    def _programs(self) -> Path:
        return self.folder / ("Scripts" if os.name == "nt" else "bin")

    def provide(self, purpose: Purpose) -> None:
        """Make and fill what is missing; costs milliseconds when nothing is.

        Raises:
            StepFailed: something cannot be made or installed.
        """
        if self.is_complete_for(purpose):
            return
        with _one_at_a_time(self.root / "pyproject.toml"):
            if not self.is_complete_for(purpose):  # another command may have done it
                self._fill(purpose)

    def _fill(self, purpose: Purpose) -> None:
        if not self._is_usable():
            self._make()
        self.write_stamp("filling")
        try:
            self._install_torch()
            self._install_project(purpose)
        except StepFailed:
            self.stamp.unlink()  # what pip gave up in good order can be gone on with
            raise
        self.write_stamp(purpose)
        say("Everything is installed")

    def is_complete_for(self, purpose: Purpose) -> bool:
        """Whether the stamp was written here, for this Python and these dependencies."""
        stamp = self._read_stamp()
        return (
            self.python.exists()
            and _config_version(self.folder) == PYTHON
            and stamp.get("facts") == self._facts()
            and stamp.get("purpose") in (purpose, "test")
        )

    def write_stamp(self, purpose: Purpose | Literal["filling"]) -> None:
        """Remember that everything for this purpose is installed, or is being installed."""
        text = json.dumps({"facts": self._facts(), "purpose": purpose}, indent=2)
        self.stamp.write_text(text + "\n", encoding="utf-8")

    def _facts(self) -> dict[str, str]:
        facts = {
            "root": str(self.root),
            "python": PYTHON,
            "torch": TORCH_VERSION,
            "dependencies": _digest_of_dependencies(self.root / "pyproject.toml"),
        }
        for listed in (self._beside, self._alone):
            if listed is not None:
                facts[listed.name] = hashlib.sha256(listed.read_bytes()).hexdigest()
        return facts

    def _read_stamp(self) -> dict[str, object]:
        try:
            stamp = json.loads(self.stamp.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stamp if isinstance(stamp, dict) else {}

    def _is_usable(self) -> bool:
        """Whether it is of this Python, still where it was made, and in good order."""
        stamp = self._read_stamp()
        facts = stamp.get("facts")
        was_moved = isinstance(facts, dict) and facts.get("root") != str(self.root)
        # What a killed pip left half copied looks installed to the next one.
        was_killed = stamp.get("purpose") == "filling"
        if was_moved or was_killed or _config_version(self.folder) != PYTHON:
            return False
        return output_of_failed([str(self.python), "-m", "pip", "--version"]) is None

    def _make(self) -> None:
        _require_venv_module()
        name = self.folder.name
        what = f"{name} anew" if self.folder.exists() else name
        say(f"Making {what} with Python {PYTHON}")
        # The base interpreter, since our own may be the one inside the folder we clear.
        base = getattr(sys, "_base_executable", None) or sys.executable
        errors = output_of_failed([base, "-m", "venv", "--clear", str(self.folder)])
        if errors:
            raise StepFailed(f"{self.folder} could not be made with {base}.", tail_of(errors))

    def _install_torch(self) -> None:
        if self._torch_version().partition("+")[0] == TORCH_VERSION:
            return
        failures = []
        for route in routes(sys.platform, has_nvidia_gpu()):
            say(route.told)
            errors = self._take(route)
            if errors is None:
                return
            say("That is not to be had here")
            failures.append(errors)
        raise StepFailed(
            f"PyTorch {TORCH_VERSION} could not be installed. It is made for 64-bit Linux, "
            "Windows and Apple silicon.",
            tail_of("\n".join(failures)),
        )

    def _torch_version(self) -> str:
        probe = [str(self.python), "-c", _TORCH_PROBE]
        found = subprocess.run(probe, capture_output=True, text=True, check=False)
        return found.stdout.strip()

    def _take(self, route: Route) -> str | None:
        """Install by one route; None, or the errors."""
        if route.tool == "pip":
            return self._pip("install", *route.arguments)
        errors = self._pip("install", "--quiet", "uv")
        if errors:
            return errors
        python = str(self.python)
        # uv draws its progress on standard error, so its errors are seen as they come.
        uv = [python, "-m", "uv", "pip", "install", "--python", python, *route.arguments]
        return None if succeeds(uv) else "uv failed; what it said stands above."

    def _install_project(self, purpose: Purpose) -> None:
        say("Installing Microscope and what it needs")
        beside = ["--requirement", str(self._beside)] if self._beside else []
        errors = self._pip("install", *beside, "--editable", f".{EXTRAS[purpose]}")
        if not errors and self._alone:
            errors = self._pip("install", "--no-deps", "--requirement", str(self._alone))
        if errors:
            raise StepFailed("What Microscope needs could not be installed.", tail_of(errors))

    def _pip(self, *arguments: str) -> str | None:
        """Run pip, a second time if the network fails; None, or the errors.

        Raises:
            StepFailed: the network failed twice, so that no other route would do better.
        """
        command = [str(self.python), "-m", "pip", *arguments]
        env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"}
        errors = errors_of(command, folder=self.root, env=env)
        if errors and is_network_failure(errors):
            say("The network failed; trying once more")
            errors = errors_of(command, folder=self.root, env=env)
            if errors and is_network_failure(errors):
                raise StepFailed(
                    "The network failed twice. Look at the connection (and proxy), then run "
                    "this command again: it goes on where it stopped.",
                    tail_of(errors),
                )
        return errors


@contextlib.contextmanager
def _one_at_a_time(file: Path) -> Iterator[None]:
    """Let one command at a time into the block; the lock goes with the process that has it."""
    with file.open("rb") as handle:
        if sys.platform != "win32":  # there the second pip fails on a file in use
            import fcntl

            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                say("Another command is installing something here; waiting for it")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _config_version(folder: Path) -> str:
    """Major and minor version that a virtual environment was made for; empty if it is none."""
    try:
        lines = (folder / "pyvenv.cfg").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return ""
    pairs = (line.partition("=") for line in lines)
    config = {key.strip(): value.strip() for key, _, value in pairs}
    version = config.get("version") or config.get("version_info") or ""
    return ".".join(version.split(".")[:2])


def _digest_of_dependencies(pyproject: Path) -> str:
    """A hash of the parts of pyproject.toml that an installation depends on."""
    import tomllib  # missing on the old Pythons that must still be able to read this module

    table = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    parts = [
        table.get("build-system"),
        table.get("project"),
        table.get("tool", {}).get("hatch"),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _require_venv_module() -> None:
    """Debian splits Python: without python3-venv there is no ensurepip, and so no `.venv`."""
    if _can_make_environments():
        return
    package = f"python{PYTHON}-venv"
    if has_apt() and sys.base_prefix == "/usr" and install_packages([package]):
        importlib.invalidate_caches()
        if _can_make_environments():
            return
    raise StepFailed(
        f"This Python ({sys.executable}) cannot make virtual environments: its modules venv "
        f"and ensurepip are missing. On Debian or Ubuntu run: sudo apt-get install {package}"
    )


def _can_make_environments() -> bool:
    return all(importlib.util.find_spec(name) for name in ("venv", "ensurepip"))
