"""What Qt misses is found out and installed where we may, and told where we may not."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import debian_packages
import pytest
import system_libraries
from system_libraries import missing_parts, needed_libraries, provide_system_libraries

if TYPE_CHECKING:
    from pathlib import Path

linux_only = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere Qt brings what it needs"
)
APT = """#!/bin/sh
echo "$DEBIAN_FRONTEND $@" >> "$APT_LOG"
case "$*" in *"$APT_FAILS"*) echo "$APT_SAYS"; exit 100;; esac
"""


def test_a_screen_needs_more_than_a_picture():
    offscreen = needed_libraries({})
    assert "libEGL.so.1" in offscreen
    assert "libxcb-cursor.so.0" not in offscreen
    assert "libxcb-cursor.so.0" in needed_libraries({"DISPLAY": ":0"})
    assert "libwayland-client.so.0" in needed_libraries({"WAYLAND_DISPLAY": "wayland-0"})


def test_what_loads_is_not_missing():
    assert missing_parts({"DISPLAY": ":0"}, lambda _name: True, lambda: True) == {}


def test_what_does_not_load_is_named_with_its_package():
    missing = missing_parts({}, lambda name: name != "libGL.so.1", lambda: False)
    assert missing == {"libGL.so.1": "libgl1", "a font": "fonts-dejavu-core"}


def test_a_library_that_is_not_there_does_not_load():
    assert not system_libraries.can_load("libmicroscope-nowhere.so.9")


@pytest.mark.parametrize(("name", "expected"), [("a.TTF", True), ("readme", False)])
def test_a_font_is_a_file_of_a_font_s_kind(name, expected, tmp_path, monkeypatch):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / name).touch()
    monkeypatch.setattr(system_libraries, "_FONT_FOLDERS", (tmp_path / "none", tmp_path))
    assert system_libraries.has_font() is expected


class Debian:
    """A system whose apt-get only takes notes."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._log = folder / "apt.log"
        self.missing = {"libGL.so.1": "libgl1", "libEGL.so.1": "libegl1"}
        script = folder / "apt-get"
        script.write_text(APT)
        script.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder), prepend=":")
        monkeypatch.setenv("APT_LOG", str(self._log))
        monkeypatch.setenv("APT_FAILS", "nothing")
        monkeypatch.setattr(system_libraries, "missing_parts", lambda _environ: self.missing)
        monkeypatch.setattr(debian_packages, "_privilege", list)

    @property
    def calls(self) -> list[str]:
        return self._log.read_text().splitlines() if self._log.exists() else []


@pytest.fixture
def debian(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Debian:
    return Debian(tmp_path, monkeypatch)


UPDATE = "noninteractive -q update"
INSTALL = "noninteractive -q install -y --no-install-recommends libegl1 libgl1"


@linux_only
def test_missing_packages_are_installed_after_an_update(debian, capsys):
    provide_system_libraries({})
    assert debian.calls == [UPDATE, INSTALL]
    assert "Still missing: libGL.so.1, libEGL.so.1" in capsys.readouterr().out


@linux_only
def test_when_nothing_is_missing_nothing_is_asked_or_said(debian, capsys):
    debian.missing = {}
    provide_system_libraries({})
    assert debian.calls == []
    assert capsys.readouterr().out == ""


@linux_only
def test_without_the_right_to_install_the_user_is_told_what_to_type(
    debian, monkeypatch, capsys
):
    monkeypatch.setattr(debian_packages, "_privilege", lambda: None)
    provide_system_libraries({})
    assert debian.calls == []
    assert "sudo apt-get install libegl1 libgl1" in capsys.readouterr().out


@linux_only
def test_an_installation_that_fails_shows_why_and_goes_on(debian, monkeypatch, capsys):
    monkeypatch.setenv("APT_FAILS", "install")
    monkeypatch.setenv("APT_SAYS", "E: Unable to locate package libegl1")
    provide_system_libraries({})
    assert debian.calls == [UPDATE, INSTALL]
    shown = capsys.readouterr().out
    assert "Unable to locate" in shown
    assert "Please run: sudo apt-get install" in shown


@linux_only
def test_an_update_that_fails_does_not_matter_when_the_installation_succeeds(
    debian, monkeypatch
):
    monkeypatch.setenv("APT_FAILS", "update")
    assert debian_packages.install_packages(["libegl1", "libgl1"])
    assert debian.calls == [UPDATE, INSTALL]


@linux_only
def test_a_network_that_fails_is_tried_once_more(debian, monkeypatch):
    monkeypatch.setenv("APT_FAILS", "install")
    monkeypatch.setenv("APT_SAYS", "Temporary failure resolving 'mirror'")
    assert not debian_packages.install_packages(["libegl1", "libgl1"])
    assert debian.calls == [UPDATE, INSTALL] * 2


@linux_only
def test_another_linux_is_told_the_libraries(debian, monkeypatch, capsys):
    monkeypatch.setattr(system_libraries, "has_apt", lambda: False)
    provide_system_libraries({})
    assert debian.calls == []
    shown = capsys.readouterr().out
    assert "libGL.so.1" in shown
    assert "package manager" in shown
