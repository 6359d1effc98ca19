"""Settings survive a restart, and a broken file costs the settings, never the start."""

from __future__ import annotations

import json
import logging

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings, strategies

from microscope.core.errors import FileNotWritten
from microscope.storage.settings import (
    MAX_RECENT,
    Settings,
    load_settings,
    save_settings,
    settings_file,
    with_recent,
)

UNUSUAL = Settings(
    theme="light",
    text_scale=1.5,
    geometry=b"\x01\xd9\xd0\xcb",
    layout=bytes(range(256)),
    recent_models=("/models/über", "specimen"),
    recent_saes=("a", "b"),
    offline=False,
)


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROSCOPE_HOME", str(tmp_path))


def _write(data: bytes) -> None:
    settings_file().parent.mkdir(parents=True, exist_ok=True)
    settings_file().write_bytes(data)


def _kept() -> bytes:
    return settings_file().with_name("settings.json.broken").read_bytes()


def test_without_a_file_there_are_the_defaults_and_no_warning(caplog):
    assert load_settings() == Settings()
    assert not caplog.records
    assert Settings().theme == "dark"
    assert Settings().offline


def test_what_is_saved_is_loaded():
    save_settings(UNUSUAL)
    assert load_settings() == UNUSUAL


def test_the_file_is_json_that_a_person_can_read():
    save_settings(UNUSUAL)
    plain = json.loads(settings_file().read_text(encoding="utf-8"))
    assert plain["theme"] == "light"
    assert plain["geometry"] == "AdnQyw=="
    assert settings_file().read_bytes().count(b"\n") > len(plain)


def test_a_field_of_another_version_is_dropped():
    _write(b'{"theme": "light", "wallpaper": {"deep": [1, 2]}}')
    assert load_settings() == Settings(theme="light")
    save_settings(load_settings())
    assert b"wallpaper" not in settings_file().read_bytes()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00\xff",
        b"[]",
        b'{"theme": "light", "text_sc',
        b'{"theme": "sepia"}',
        b'{"text_scale": "big"}',
        b'{"text_scale": 0.01}',
        b'{"text_scale": NaN}',
        b'{"layout": "not base64!"}',
        b'{"recent_models": [1]}',
        b'{"recent_models": ["\xff"]}',
        b'{"version": 0}',
        b'{"version": 2, "theme": "light"}',
        b'{"version": "1"}',
        b'{"deep": ' + b"[" * 100_000,
    ],
    ids=lambda data: data[:24].decode("latin-1"),
)
def test_a_file_that_cannot_be_read_is_kept_aside_and_the_defaults_are_used(data, caplog):
    _write(data)
    with caplog.at_level(logging.WARNING):
        assert load_settings() == Settings()
    assert "settings.json.broken" in caplog.text
    assert _kept() == data
    assert not settings_file().exists()
    caplog.clear()
    assert load_settings() == Settings()
    assert not caplog.records


def test_a_second_broken_file_takes_the_place_of_the_first():
    for data in (b"first", b"second"):
        _write(data)
        load_settings()
    assert _kept() == b"second"


def test_a_folder_in_the_file_s_place_is_a_warning_not_a_crash(caplog):
    settings_file().mkdir(parents=True)
    assert load_settings() == Settings()
    assert "cannot be read" in caplog.text


def test_a_broken_file_that_cannot_be_moved_is_a_warning_not_a_crash(caplog):
    _write(b"{")
    settings_file().with_name("settings.json.broken").mkdir()
    assert load_settings() == Settings()
    assert "cannot be moved" in caplog.text
    assert settings_file().read_bytes() == b"{"


def test_settings_that_cannot_be_saved_are_reported():
    settings_file().mkdir(parents=True)
    with pytest.raises(FileNotWritten, match="settings"):
        save_settings(Settings())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(cut=strategies.integers(0, 400), junk=strategies.binary(max_size=8))
def test_a_file_damaged_anywhere_never_stops_the_start(cut, junk):
    data = msgspec.json.encode(UNUSUAL)
    _write(data[:cut] + junk + data[cut + len(junk) :])
    assert isinstance(load_settings(), Settings)


def test_the_newest_source_comes_first_once():
    assert with_recent(("a", "b"), "b") == ("b", "a")
    assert with_recent((), "a") == ("a",)
    many = tuple(str(n) for n in range(MAX_RECENT))
    assert with_recent(many, "new") == ("new", *many[:-1])
