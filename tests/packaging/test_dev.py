"""The two commands of a checkout, run as a person would run them, with a make-believe .venv."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dev
import pytest
from virtual_environment import VirtualEnvironment

PACKAGING = Path(dev.__file__).parent
posix_only = pytest.mark.skipif(os.name == "nt", reason="the make-believe Python is a script")

# Writes down how it was called, and fails when told to.
FAKE_PYTHON = """#!{python}
import json, os, sys
call = {{"argv": sys.argv[1:], "program": sys.argv[0], "cwd": os.getcwd(),
        "qt": os.environ.get("QT_QPA_PLATFORM"), "threads": os.environ.get("OMP_NUM_THREADS")}}
with open({log!r}, "a") as log:
    log.write(json.dumps(call) + "\\n")
told = os.environ.get("FAKE_FAILS", "")
sys.exit(int(os.environ.get("FAKE_CODE", 3)) if told and told in sys.argv else 0)
"""


class Checkout:
    """A checkout whose .venv is stamped complete and only takes notes."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._log = root / "calls.jsonl"
        shutil.copytree(
            PACKAGING, root / "packaging", ignore=shutil.ignore_patterns("__pycache__")
        )
        (root / "pyproject.toml").write_text('[project]\nname = "x"\n')
        self.environment = VirtualEnvironment(root)
        self._pretend_filled(self.environment)
        self._pretend_filled(dev.interop_environment(root))

    def _pretend_filled(self, environment: VirtualEnvironment) -> None:
        programs = environment.python.parent
        programs.mkdir(parents=True)
        script = FAKE_PYTHON.format(python=sys.executable, log=str(self._log))
        for name in ("python", "lint-imports"):
            (programs / name).write_text(script)
            (programs / name).chmod(0o755)
        version = ".".join(map(str, sys.version_info[:3]))
        (environment.folder / "pyvenv.cfg").write_text(f"version = {version}\n")
        environment.write_stamp("test")

    def command(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        hidden = ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM", "OMP_NUM_THREADS")
        base = {key: value for key, value in os.environ.items() if key not in hidden}
        return subprocess.run(
            [sys.executable, str(self.root / "packaging" / "dev.py"), *arguments],
            env={**base, "PYTHONDONTWRITEBYTECODE": "1", **environ},
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self._log.read_text().splitlines()]


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path / "a checkout")


@posix_only
def test_the_test_command_runs_every_check_in_order(checkout):
    done = checkout.command("test")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [call["argv"] for call in checkout.calls] == [
        ["-m", "ruff", "check", "."],
        ["-m", "ruff", "format", "--check", "."],
        ["-m", "mypy"],
        [],  # lint-imports
        ["-m", "pytest"],
    ]
    assert all(call["cwd"] == str(checkout.root) for call in checkout.calls)
    assert {(call["qt"], call["threads"]) for call in checkout.calls} == {("offscreen", "1")}
    assert "All checks are green." in done.stdout


@posix_only
def test_one_failed_check_does_not_stop_the_others_and_fails_the_command(checkout):
    done = checkout.command("test", FAKE_FAILS="mypy")
    assert done.returncode == 1
    assert len(checkout.calls) == 5
    assert "mypy          FAILED" in done.stdout
    assert "pytest        ok" in done.stdout
    assert done.stdout.endswith("Failed: mypy.\n")


@posix_only
def test_a_run_without_any_test_is_a_failure(checkout):
    done = checkout.command("test", FAKE_FAILS="pytest", FAKE_CODE="5")
    assert done.returncode == 1


@posix_only
def test_fast_leaves_out_slow_tests_and_the_rest_goes_to_pytest(checkout):
    checkout.command("test", "tests/core", "--fast", "-k", "a b")
    expected = ["-m", "pytest", "-m", "not slow", "tests/core", "-k", "a b"]
    assert checkout.calls[-1]["argv"] == expected


@posix_only
def test_interop_runs_only_the_comparison_in_an_environment_of_its_own(checkout):
    done = checkout.command("test", "--interop", "-k", "topk")
    assert done.returncode == 0, done.stdout + done.stderr
    (call,) = checkout.calls
    expected = ["-m", "pytest", "-m", "interop", "tests/interop", "-k", "topk"]
    assert call["argv"] == expected
    assert call["program"] == str(dev.interop_environment(checkout.root).python)
    assert done.stdout.endswith("All checks are green.\n")
    assert checkout.command("test", "--interop", FAKE_FAILS="pytest").returncode == 1


def test_the_other_programs_are_installed_into_an_environment_of_their_own(tmp_path):
    environment = dev.interop_environment(tmp_path)
    assert environment.folder == tmp_path / ".venv-interop"
    assert environment.folder != VirtualEnvironment(tmp_path).folder


@posix_only
def test_run_without_a_display_makes_a_picture_and_says_where(checkout):
    done = checkout.command("run", "--prompt", "The sea")
    picture = str(checkout.root / "microscope.png")
    (call,) = checkout.calls
    assert call["argv"] == [
        *["-m", "microscope", "snapshot", "--out", picture, "--print-texts"],
        *["--prompt", "The sea"],
    ]
    assert call["qt"] == "offscreen"
    assert done.returncode == 0
    assert "There is no display" in done.stdout
    assert picture in done.stdout


@posix_only
def test_a_picture_that_fails_is_not_announced(checkout):
    done = checkout.command("run", FAKE_FAILS="snapshot", FAKE_CODE="2")
    assert done.returncode == 2
    assert "No picture was made" in done.stdout
    assert "The picture of the window is" not in done.stdout


@posix_only
@pytest.mark.parametrize("arguments", [["doctor"], ["read", "--prompt", "x"], ["--help"]])
def test_what_needs_no_window_is_run_as_it_stands(checkout, arguments):
    assert checkout.command("run", *arguments).returncode == 0
    (call,) = checkout.calls
    assert call["argv"] == ["-m", "microscope", *arguments]
    assert call["qt"] is None


@posix_only
def test_without_a_known_command_the_two_are_explained(checkout):
    for arguments, code in (([], 2), (["start"], 2), (["--help"], 0)):
        done = checkout.command(*arguments)
        assert done.returncode == code
        assert "dev.py run" in done.stdout
        assert "dev.py test" in done.stdout


@posix_only
def test_ci_runs_the_test_command(checkout):
    script = checkout.root / ".ci" / "run"
    script.parent.mkdir()
    shutil.copy(PACKAGING.parent / ".ci" / "run", script)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [str(script)],
        cwd="/",
        env={**os.environ, "PATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert checkout.calls[-1]["argv"] == ["-m", "pytest"]


def test_packaging_is_no_package_since_that_would_shadow_a_library():
    assert not (PACKAGING / "__init__.py").exists()


@pytest.mark.parametrize("version", [(3, 11), (3, 12), (3, 13)])
def test_the_supported_pythons_draw_no_complaint(version):
    assert dev.complaint_about(version) is None


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 14)])
def test_another_python_is_told_which_to_use(version, monkeypatch):
    monkeypatch.setattr(dev, "is_runnable", lambda name: name == "python3.12")
    complaint = dev.complaint_about(version)
    assert "3.11 to 3.13" in complaint
    assert complaint.endswith("Run this with python3.12.")
    monkeypatch.setattr(dev, "is_runnable", lambda _name: False)
    assert "Install one of them" in dev.complaint_about(version)


def test_a_name_that_starts_no_python_is_not_advised(tmp_path, monkeypatch):
    switcher = tmp_path / "python3.12"
    switcher.write_text("#!/bin/sh\nexit 127\n")
    switcher.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not dev.is_runnable("python3.12")
    assert not dev.is_runnable("python3.13")
    assert dev.is_runnable(sys.executable)


@pytest.mark.parametrize(
    ("platform", "environ", "expected"),
    [
        ("linux", {}, False),
        ("linux", {"DISPLAY": ""}, False),
        ("linux", {"DISPLAY": ":0"}, True),
        ("linux", {"WAYLAND_DISPLAY": "wayland-0"}, True),
        ("darwin", {}, True),
        ("win32", {}, True),
    ],
)
def test_only_linux_can_be_without_a_display(platform, environ, expected):
    assert dev.has_display(platform, environ) is expected


@pytest.mark.parametrize("arguments", [["--out", "a.png"], ["-x", "--out=a.png"]])
def test_a_picture_that_the_user_places_is_announced_there(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dev.picture_path(arguments) == tmp_path / "a.png"


@pytest.mark.parametrize("arguments", [[], ["--out"], ["--prompt", "x"]])
def test_a_picture_that_the_user_does_not_place_has_its_own_place(arguments):
    assert dev.picture_path(arguments) is None


def test_a_program_ended_by_a_signal_counts_as_failed():
    assert dev.exit_code(-11) == 139
    assert dev.exit_code(2) == 2
