"""A .venv is made when it is missing or broken, filled when something is missing, else left."""

from __future__ import annotations

import importlib.util
import sys
import threading
from typing import TYPE_CHECKING

import pytest
import torch_build
import virtual_environment
from steps import StepFailed
from torch_build import Route, routes
from virtual_environment import VirtualEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PROJECT = """
[project]
name = "x"
dependencies = ["numpy"]
[tool.ruff]
line-length = 96
"""
OFFLINE = "WARNING: Retrying (Retry(total=4)) after connection broken by NewConnectionError"


@pytest.fixture
def environment(tmp_path: Path) -> VirtualEnvironment:
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    return VirtualEnvironment(tmp_path)


class Installer:
    """Stands where pip and uv stand: keeps what it was asked, and fails as it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **failures: list[str]) -> None:
        self.asked: list[list[str]] = []
        self._failures = failures
        self.uv_works = False
        monkeypatch.setattr(virtual_environment, "errors_of", self._pip)
        monkeypatch.setattr(virtual_environment, "succeeds", self._uv)
        monkeypatch.setattr(virtual_environment, "has_nvidia_gpu", lambda: False)
        monkeypatch.setattr(virtual_environment.sys, "platform", "linux")
        monkeypatch.setattr(VirtualEnvironment, "_torch_version", lambda _self: "")

    def _pip(self, command, *, folder, env):
        arguments = command[3:]
        assert command[1:3] == ["-m", "pip"]
        assert env["PIP_USER"] == "0"
        self.asked.append(arguments)
        answers = self._failures.get(arguments[-1].replace(".", "_"), [])
        return answers.pop(0) if answers else None

    def _uv(self, command):
        assert command[1:6] == ["-m", "uv", "pip", "install", "--python"]
        self.asked.append(["uv", *command[7:]])
        return self.uv_works


def _make(environment: VirtualEnvironment) -> None:
    """A real, empty environment, in which pip answers."""
    environment._make()
    assert environment.python.exists()


def _stamped(environment: VirtualEnvironment, purpose: str = "test") -> VirtualEnvironment:
    environment.python.parent.mkdir(parents=True)
    environment.python.touch()
    version = ".".join(map(str, sys.version_info[:3]))
    (environment.folder / "pyvenv.cfg").write_text(f"home = /\nversion = {version}\n")
    environment.write_stamp(purpose)
    return environment


def test_without_a_folder_nothing_is_complete(environment):
    assert not environment.is_complete_for("run")


def test_a_stamped_environment_is_left_alone(environment, monkeypatch):
    installer = Installer(monkeypatch)
    _stamped(environment).provide("test")
    assert installer.asked == []


def test_what_is_complete_for_tests_is_complete_for_running_but_not_the_reverse(environment):
    _stamped(environment)
    assert environment.is_complete_for("run")
    assert environment.is_complete_for("test")
    environment.write_stamp("run")
    assert environment.is_complete_for("run")
    assert not environment.is_complete_for("test")


def test_a_changed_dependency_is_noticed_and_a_changed_linter_is_not(environment):
    _stamped(environment)
    pyproject = environment.root / "pyproject.toml"
    pyproject.write_text(PROJECT.replace("96", "80"))
    assert environment.is_complete_for("test")
    pyproject.write_text(PROJECT.replace("numpy", "numpy>=2"))
    assert not environment.is_complete_for("test")


@pytest.mark.parametrize("stamp", ["", "{", "[]", '{"facts": 1}', '"x"'])
def test_a_stamp_that_cannot_be_read_is_no_stamp(environment, stamp):
    _stamped(environment).stamp.write_text(stamp)
    assert not environment.is_complete_for("run")


@pytest.mark.parametrize("config", ["", "version = 3.9.1\n", "version_info = 3.99\n"])
def test_an_environment_of_another_python_is_not_complete(environment, config):
    _stamped(environment)
    (environment.folder / "pyvenv.cfg").write_text(config)
    assert not environment.is_complete_for("run")


def test_an_environment_whose_interpreter_is_gone_is_not_complete(environment):
    _stamped(environment).python.unlink()
    assert not environment.is_complete_for("run")


def test_a_half_made_environment_is_made_anew_and_filled(environment, monkeypatch):
    installer = Installer(monkeypatch)
    environment.python.parent.mkdir(parents=True)
    rubbish = environment.folder / "rubbish"
    rubbish.touch()
    made: list[VirtualEnvironment] = []

    def make(self: VirtualEnvironment) -> None:
        made.append(self)
        _stamped_python(self)

    monkeypatch.setattr(VirtualEnvironment, "_make", make)
    environment.provide("test")
    assert made == [environment]
    assert installer.asked == [
        ["install", "torch==2.13.0+cpu"],
        ["install", "--editable", ".[dev]"],
    ]
    assert environment.is_complete_for("test")


def test_other_packages_are_installed_too_and_a_change_in_their_lists_is_noticed(
    tmp_path, monkeypatch
):
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    beside, alone = tmp_path / "others.txt", tmp_path / "alone.txt"
    for listed in (beside, alone):
        listed.write_text("other==1\n")
    installer = Installer(monkeypatch)
    monkeypatch.setattr(
        VirtualEnvironment,
        "_make",
        lambda self: (self.python.parent.mkdir(parents=True), _stamped_python(self)),
    )
    environment = VirtualEnvironment(tmp_path, ".venv-others", beside=beside, alone=alone)
    environment.provide("test")
    assert installer.asked[-2:] == [
        ["install", "--requirement", str(beside), "--editable", ".[dev]"],
        ["install", "--no-deps", "--requirement", str(alone)],
    ]
    assert not (tmp_path / ".venv").exists()
    for listed in (beside, alone):
        environment.write_stamp("test")
        assert environment.is_complete_for("test")
        listed.write_text("other==2\n")
        assert not environment.is_complete_for("test")


@pytest.mark.parametrize("stops", [KeyboardInterrupt, SystemExit])
def test_an_installation_that_was_cut_off_is_begun_anew(environment, monkeypatch, stops):
    _stamped(environment, "run")
    monkeypatch.setattr(virtual_environment, "output_of_failed", lambda _command: None)
    installer = Installer(monkeypatch)
    with monkeypatch.context() as cut:
        cut.setattr(VirtualEnvironment, "_install_project", _raising(stops))
        with pytest.raises(stops):
            environment.provide("test")
    assert not environment.is_complete_for("run")
    assert not environment._is_usable()
    monkeypatch.setattr(VirtualEnvironment, "_make", _stamped_python)
    environment.provide("test")
    assert installer.asked[-1] == ["install", "--editable", ".[dev]"]
    assert environment.is_complete_for("test")


def _raising(error: type[BaseException]) -> Callable[..., None]:
    def stop(*_arguments: object) -> None:
        raise error

    return stop


@pytest.mark.skipif(sys.platform == "win32", reason="files are not locked there")
def test_a_second_command_waits_and_finds_everything_done(environment, monkeypatch):
    _stamped(environment).stamp.unlink()
    installer = Installer(monkeypatch)
    waits = threading.Event()
    monkeypatch.setattr(virtual_environment, "say", lambda _text: waits.set())
    second = threading.Thread(target=environment.provide, args=("test",))
    with virtual_environment._one_at_a_time(environment.root / "pyproject.toml"):
        second.start()
        assert waits.wait(timeout=60)
        environment.write_stamp("test")
    second.join()
    assert installer.asked == []


def _stamped_python(environment: VirtualEnvironment) -> None:
    environment.python.touch()
    version = ".".join(map(str, sys.version_info[:3]))
    (environment.folder / "pyvenv.cfg").write_text(f"version = {version}\n")


def test_a_real_environment_is_made_over_rubbish_and_is_then_usable(environment):
    environment.folder.mkdir()
    (environment.folder / "rubbish").touch()
    assert not environment._is_usable()
    _make(environment)
    assert environment._is_usable()
    assert not (environment.folder / "rubbish").exists()
    assert environment._torch_version() == ""
    environment.write_stamp("run")
    assert environment.is_complete_for("run")
    moved = environment.root.with_name("moved")
    environment.root.rename(moved)
    assert not VirtualEnvironment(moved).is_complete_for("run")
    assert not VirtualEnvironment(moved)._is_usable()


def test_a_torch_that_is_there_is_not_installed_again(environment, monkeypatch):
    installer = Installer(monkeypatch)
    monkeypatch.setattr(VirtualEnvironment, "_torch_version", lambda _self: "2.13.0+cu130")
    environment._install_torch()
    assert installer.asked == []


def test_when_pip_has_no_cpu_build_uv_is_asked_and_then_the_large_build_is_taken(
    environment, monkeypatch, capsys
):
    installer = Installer(monkeypatch, **{"torch==2_13_0+cpu": ["No matching distribution"]})
    environment._install_torch()
    assert installer.asked == [
        ["install", "torch==2.13.0+cpu"],
        ["install", "--quiet", "uv"],
        ["uv", "--no-deps", "--torch-backend=cpu", "torch==2.13.0"],
        ["install", "torch==2.13.0"],
    ]
    assert "the large build" in capsys.readouterr().out


def test_when_uv_finds_a_cpu_build_the_large_build_is_not_touched(environment, monkeypatch):
    installer = Installer(monkeypatch, **{"torch==2_13_0+cpu": ["No matching distribution"]})
    installer.uv_works = True
    environment._install_torch()
    assert [asked[0] for asked in installer.asked] == ["install", "install", "uv"]


def test_when_no_route_leads_to_torch_the_errors_are_told(environment, monkeypatch):
    Installer(
        monkeypatch,
        **{"torch==2_13_0+cpu": ["no cpu"], "uv": ["no uv"], "torch==2_13_0": ["no large"]},
    )
    with pytest.raises(StepFailed, match=r"PyTorch 2\.13\.0 could not") as failure:
        environment._install_torch()
    assert all(word in failure.value.tail for word in ("no cpu", "no uv", "no large"))


def test_a_network_failure_is_tried_once_more(environment, monkeypatch, capsys):
    installer = Installer(monkeypatch, _=[OFFLINE])
    environment._install_project("run")
    assert installer.asked == [["install", "--editable", "."]] * 2
    assert "trying once more" in capsys.readouterr().out


def test_a_network_that_fails_twice_ends_the_command_with_a_sentence(environment, monkeypatch):
    installer = Installer(monkeypatch, **{"torch==2_13_0+cpu": [OFFLINE, OFFLINE]})
    with pytest.raises(StepFailed, match="network failed twice") as failure:
        environment._install_torch()
    assert len(installer.asked) == 2
    assert "NewConnectionError" in failure.value.tail


def test_an_installation_that_fails_leaves_no_stamp(environment, monkeypatch):
    _stamped(environment, "run")
    Installer(monkeypatch, **{"_[dev]": ["ERROR: no space left"]})
    monkeypatch.setattr(VirtualEnvironment, "_is_usable", lambda _self: True)
    with pytest.raises(StepFailed, match="could not be installed") as failure:
        environment.provide("test")
    assert "no space left" in failure.value.tail
    assert not environment.stamp.exists()


def test_a_python_without_ensurepip_is_told_which_package_to_install(environment, monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(
        virtual_environment.importlib.util,
        "find_spec",
        lambda name: None if name == "ensurepip" else real(name),
    )
    monkeypatch.setattr(virtual_environment, "has_apt", lambda: False)
    with pytest.raises(StepFailed, match=r"apt-get install python3\.\d+-venv"):
        environment.provide("run")


def test_debian_s_python_gets_its_venv_package(environment, monkeypatch):
    installed: list[list[str]] = []

    def install(packages: list[str]) -> bool:
        installed.append(packages)
        return True

    monkeypatch.setattr(virtual_environment, "_can_make_environments", lambda: bool(installed))
    monkeypatch.setattr(virtual_environment, "has_apt", lambda: True)
    monkeypatch.setattr(virtual_environment, "install_packages", install)
    monkeypatch.setattr(virtual_environment.sys, "base_prefix", "/usr")
    virtual_environment._require_venv_module()
    assert installed == [[f"python{virtual_environment.PYTHON}-venv"]]


@pytest.mark.parametrize(
    ("platform", "has_gpu", "tools", "last"),
    [
        ("linux", False, ["pip", "uv", "pip"], "torch==2.13.0"),
        ("linux", True, ["pip"], "torch==2.13.0"),
        ("win32", False, ["pip"], "torch==2.13.0"),
        ("win32", True, ["uv", "pip"], "torch==2.13.0"),
        ("darwin", False, ["pip"], "torch==2.13.0"),
    ],
)
def test_each_platform_has_its_ways_to_torch(platform, has_gpu, tools, last):
    ways = routes(platform, has_gpu)
    assert [way.tool for way in ways] == tools
    assert ways[-1].arguments == (last,)
    assert all("torch==2.13.0" in way.arguments[-1] for way in ways)


def test_only_a_linux_without_gpu_asks_for_a_cpu_build():
    def asks(way: Route) -> bool:
        return any("cpu" in argument for argument in way.arguments)

    assert [asks(way) for way in routes("linux", False)] == [True, True, False]
    for platform, has_gpu in (("linux", True), ("win32", True), ("darwin", False)):
        assert not any(asks(way) for way in routes(platform, has_gpu))


@pytest.mark.skipif(sys.platform == "win32", reason="the make-believe driver is a script")
@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'GPU 0: NVIDIA H200'", True),
        ("echo 'No devices were found'", False),
        ("echo 'GPU 0'; exit 9", False),
    ],
)
def test_a_gpu_is_there_when_its_driver_answers(script, expected, tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert torch_build._nvidia_smi_answers() is expected


def test_without_a_driver_there_is_no_answer(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert not torch_build._nvidia_smi_answers()
