"""The store of feature pages."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from microscope.core.errors import StoreUnreadable
from microscope.core.features import FeatureId
from microscope.core.pages import FeaturePage
from microscope.storage.feature_pages import SCHEMA_VERSION, FeaturePages

SAE = "blocks.1.hook_resid_post"
BRIDGES = FeaturePage(FeatureId(SAE, 3), "Golden Gate bridges", 0.93, "F1", 12.5, 0.01)
CATS = FeaturePage(FeatureId(SAE, 7), "about cats", 0.5, "F1", 2.0, 0.2)
UNKNOWN = FeaturePage(FeatureId("other", 3))


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "pages of a model.sqlite"
    with FeaturePages(path, is_writable=True) as store:
        store.write([BRIDGES, CATS, UNKNOWN])
    return path


def test_what_is_written_is_read_back(path):
    with FeaturePages(path) as store:
        assert store.page(BRIDGES.feature) == BRIDGES
        assert store.page(UNKNOWN.feature) == UNKNOWN
        assert store.page(FeatureId(SAE, 4)) is None
        assert store.pages_of(SAE) == {3: BRIDGES, 7: CATS}
        assert store.pages_of("no such SAE") == {}


def test_a_later_page_takes_the_place_of_an_earlier_one(path):
    dogs = FeaturePage(CATS.feature, "about dogs")
    with FeaturePages(path, is_writable=True) as store:
        store.write([dogs])
        assert store.pages_of(SAE) == {3: BRIDGES, 7: dogs}
        assert store.search("cats") == []
        assert store.search("dogs") == [dogs]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("bridges", [BRIDGES]),
        ("BRIDG", [BRIDGES]),
        ("gate golden", [BRIDGES]),
        ("golden cats", []),
        ("", []),
        ("  ", []),
        ('"', []),
        ('ab"out OR cats*', []),
        ("(NEAR", []),
        ("label:cats", []),
        ("about", [CATS]),
    ],
)
def test_search_finds_labels_by_words_and_takes_any_text(path, text, found):
    with FeaturePages(path) as store:
        assert store.search(text) == found


def test_search_gives_no_more_than_asked(path):
    more = [FeaturePage(FeatureId(SAE, 20 + n), f"sea {n}", n / 10) for n in range(5)]
    with FeaturePages(path, is_writable=True) as store:
        store.write(more)
        assert [page.label for page in store.search("sea", limit=2)] == ["sea 4", "sea 3"]


def test_a_failed_write_leaves_nothing_behind(path):
    bad = FeaturePage(FeatureId(SAE, 9), None)  # type: ignore[arg-type]
    with FeaturePages(path, is_writable=True) as store:
        with pytest.raises(StoreUnreadable):
            store.write([FeaturePage(FeatureId(SAE, 8), "new"), bad])
        assert store.pages_of(SAE) == {3: BRIDGES, 7: CATS}


def test_a_reader_reads_while_a_writer_writes(path):
    with FeaturePages(path, is_writable=True) as writer, FeaturePages(path) as reader:

        def pages():
            for number in range(50):
                assert reader.page(CATS.feature) == CATS
                yield FeaturePage(FeatureId("new", number), "new")

        writer.write(pages())
        assert len(reader.pages_of("new")) == 50
    with FeaturePages(path) as reader:
        assert len(reader.pages_of("new")) == 50


def test_a_closed_store_is_one_file(path):
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_reader_cannot_change_the_file(path):
    before = path.read_bytes()
    with FeaturePages(path) as store, pytest.raises(StoreUnreadable):
        store.write([UNKNOWN])
    assert path.read_bytes() == before


def test_a_missing_file_is_said_and_not_made(tmp_path):
    with pytest.raises(StoreUnreadable, match=r"none\.sqlite cannot be used"):
        FeaturePages(tmp_path / "none.sqlite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("is_writable", [False, True])
@pytest.mark.parametrize(
    "content", [b"this is no database at all" * 99, b"SQLite format 3\0" * 40]
)
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path, content, is_writable):
    path = tmp_path / "garbage.sqlite"
    path.write_bytes(content)
    with pytest.raises(StoreUnreadable, match=r"garbage\.sqlite"):
        FeaturePages(path, is_writable=is_writable)
    assert path.read_bytes() == content


def test_an_empty_file_holds_no_pages(tmp_path):
    path = tmp_path / "empty.sqlite"
    path.touch()
    with pytest.raises(StoreUnreadable, match="no store of feature pages"):
        FeaturePages(path)


@pytest.mark.parametrize("is_writable", [False, True])
def test_another_programs_database_is_refused(tmp_path, is_writable):
    path = tmp_path / "other.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE pages (sae TEXT)")
    with pytest.raises(StoreUnreadable, match="another program"):
        FeaturePages(path, is_writable=is_writable)


@pytest.mark.parametrize("is_writable", [False, True])
def test_a_newer_store_says_update(path, is_writable):
    with closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    with pytest.raises(StoreUnreadable, match="newer version of Microscope"):
        FeaturePages(path, is_writable=is_writable)


def test_a_value_of_the_wrong_kind_is_said(path):
    with closing(sqlite3.connect(path)) as db:
        db.executescript(
            "ALTER TABLE pages RENAME TO old;"
            "CREATE TABLE pages AS SELECT * FROM old;"
            "UPDATE pages SET label = x'00ff', density = 'dense';"
        )
    with FeaturePages(path) as store, pytest.raises(StoreUnreadable):
        store.page(CATS.feature)
