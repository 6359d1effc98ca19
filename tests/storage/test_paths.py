"""Folders are found, and a file is written whole or not at all."""

from __future__ import annotations

import errno
import os
import stat
import sys
import threading
from pathlib import Path

import pytest

import microscope
from microscope.core.errors import FileNotWritten, InstallationBroken
from microscope.storage import paths
from microscope.storage.paths import write_atomically

posix_only = pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions and links")


def _use_package_in(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(paths.importlib.resources, "files", lambda _name: folder)


def test_resources_are_the_package_s_own_when_it_has_them(tmp_path, monkeypatch):
    package = tmp_path / "microscope"
    (package / "resources").mkdir(parents=True)
    (tmp_path / "resources").mkdir()
    _use_package_in(monkeypatch, package)
    assert paths.resources() == package / "resources"


def test_resources_are_the_checkout_s_when_the_package_has_none(tmp_path, monkeypatch):
    (tmp_path / "microscope").mkdir()
    (tmp_path / "resources").mkdir()
    _use_package_in(monkeypatch, tmp_path / "microscope")
    assert paths.resources() == tmp_path / "resources"


def test_an_installation_without_resources_says_where_they_should_be(tmp_path, monkeypatch):
    _use_package_in(monkeypatch, tmp_path / "microscope")
    with pytest.raises(InstallationBroken, match="resources"):
        paths.resources()


def test_resources_of_this_checkout_are_found():
    root = Path(microscope.__file__).parents[1]
    assert paths.resources() == root / "resources"


@pytest.mark.parametrize("name", ["data", "cache", "config", "log"])
def test_microscope_home_moves_every_folder_of_the_user(name, tmp_path, monkeypatch):
    monkeypatch.setenv("MICROSCOPE_HOME", str(tmp_path))
    assert getattr(paths, f"user_{name}")() == tmp_path / name
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("home", [None, ""])
def test_without_microscope_home_the_system_s_folders_are_used(home, monkeypatch):
    monkeypatch.delenv("MICROSCOPE_HOME", raising=False)
    if home is not None:
        monkeypatch.setenv("MICROSCOPE_HOME", home)
    folders = [paths.user_data(), paths.user_cache(), paths.user_config(), paths.user_log()]
    assert all(folder.is_absolute() for folder in folders)
    assert all("microscope" in folder.parts for folder in folders)


def test_a_relative_home_does_not_move_with_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MICROSCOPE_HOME", "stick")
    assert paths.user_data() == tmp_path / "stick" / "data"


def test_a_file_is_written_with_its_folders(tmp_path):
    path = tmp_path / "a" / "b" / "c.json"
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(path.parent) == ["c.json"]


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "c.json"
    path.write_bytes(b"something longer")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["c.json"]


def test_on_a_full_disk_the_old_file_stays_and_no_draft_is_left(tmp_path, monkeypatch):
    path = tmp_path / "c.json"
    path.write_bytes(b"old")

    def refuse(_handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(paths.os, "fsync", refuse)
    with pytest.raises(FileNotWritten, match=r"c\.json could not be written: No space left"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c.json"]


def test_a_write_that_the_system_cuts_short_leaves_the_old_file(tmp_path):
    resource = pytest.importorskip("resource", reason="file size limits are POSIX")
    path = tmp_path / "c.bin"
    path.write_bytes(b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 20, hard))
    try:
        with pytest.raises(FileNotWritten):
            write_atomically(path, bytes(9 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["c.bin"]


def test_a_folder_in_the_way_is_reported(tmp_path):
    (tmp_path / "c.json").mkdir()
    with pytest.raises(FileNotWritten, match=r"c\.json"):
        write_atomically(tmp_path / "c.json", b"new")
    assert os.listdir(tmp_path) == ["c.json"]


def test_a_file_where_a_folder_should_be_is_reported(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(FileNotWritten):
        write_atomically(tmp_path / "file" / "c.json", b"new")


@posix_only
def test_a_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "real.json").write_bytes(b"old")
    (tmp_path / "link.json").symlink_to(tmp_path / "real.json")
    write_atomically(tmp_path / "link.json", b"new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_bytes() == b"new"


@posix_only
def test_permissions_are_kept_and_new_files_follow_the_umask(tmp_path):
    old, new, plain = tmp_path / "old", tmp_path / "new", tmp_path / "plain"
    old.write_bytes(b"")
    old.chmod(0o640)
    plain.write_bytes(b"")
    write_atomically(old, b"x")
    write_atomically(new, b"x")
    assert stat.S_IMODE(old.stat().st_mode) == 0o640
    assert stat.S_IMODE(new.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_readers_beside_a_writer_never_see_half_a_file(tmp_path):
    path = tmp_path / "c.bin"
    versions = [bytes([n]) * 200_000 for n in range(20)]
    write_atomically(path, versions[0])
    is_done = threading.Event()

    def write_all() -> None:
        for version in versions:
            write_atomically(path, version)
        is_done.set()

    writer = threading.Thread(target=write_all)
    writer.start()
    try:
        seen = []
        while not is_done.is_set():
            seen.append(path.read_bytes())
    finally:
        writer.join()
    assert seen
    assert all(data in versions for data in seen)
