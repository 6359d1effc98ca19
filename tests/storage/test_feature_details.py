"""Details beside the pages, in new stores and in those of the first version."""

import sqlite3

import pytest

from microscope.core.cards import ModelCard, SaeCard
from microscope.core.checkup import Published
from microscope.core.errors import StoreUnreadable
from microscope.core.features import FeatureId
from microscope.core.library import SaeRelease
from microscope.core.pages import (
    Example,
    FeatureDetails,
    FeaturePage,
    Histogram,
    Label,
    TokenWeight,
)
from microscope.core.sites import resid_post
from microscope.storage import feature_pages
from microscope.storage.feature_details import MAX_EXAMPLES, MAX_LABELS
from microscope.storage.feature_pages import FeaturePages, merged
from microscope.storage.published_saes import labels_store, release_of
from microscope.storage.releases import load_releases
from microscope.storage.shelf import LocalShelf

SITE = resid_post(1)
FEATURE = FeatureId("s", 3)
PAGE = FeaturePage(FEATURE, "bridges", 0.9, "corpus", 6.0, 0.01)
DETAILS = FeatureDetails(
    FEATURE,
    (Label("bridges", "auto", None, 2), Label("spans", "auto")),
    Histogram((1.0, 2.0), (5.0, 3.0)),
    (TokenWeight(" bridge", 2.0),),
    (TokenWeight("no", -1.0),),
    (Example(("a", "b"), (0.0, 4.0)), Example(("c",), (1.0,))),
)


@pytest.fixture
def old_store(tmp_path, monkeypatch):
    """A store as the first version of the schema made it."""
    path = tmp_path / "old.sqlite"
    with monkeypatch.context() as patch:
        patch.setattr(feature_pages, "_STEPS", feature_pages._STEPS[:1])
        patch.setattr(feature_pages, "SCHEMA_VERSION", 1)
        with FeaturePages(path, is_writable=True) as pages:
            pages.write([PAGE])
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()
    return path


def test_details_come_back_as_they_went_in(tmp_path):
    with FeaturePages(tmp_path / "p.sqlite", is_writable=True) as pages:
        pages.merge([(FeaturePage(FEATURE, max_activation=6.0), DETAILS)])
    with FeaturePages(tmp_path / "p.sqlite") as pages:
        assert pages.details(FEATURE) == DETAILS
        assert pages.page(FEATURE) == FeaturePage(FEATURE, "bridges", None, "auto", 6.0)
        assert pages.details(FeatureId("s", 4)) == FeatureDetails(FeatureId("s", 4))
        assert [page.label for page in pages.search("bridge")] == ["bridges"]


def test_a_store_of_the_first_version_is_read_without_being_changed(old_store):
    before = old_store.read_bytes()
    with FeaturePages(old_store) as pages:
        assert pages.page(FEATURE) == PAGE
        assert pages.details(FEATURE) == FeatureDetails(FEATURE)
    assert old_store.read_bytes() == before


def test_merging_into_an_old_store_keeps_its_label_among_the_others(old_store):
    with FeaturePages(old_store, is_writable=True) as pages:
        told = FeatureDetails(FEATURE, (Label("mine", "import"),))
        pages.merge([(FeaturePage(FEATURE), told)])
        assert pages.page(FEATURE) == FeaturePage(FEATURE, "mine", None, "import", 6.0, 0.01)
        labels = pages.details(FEATURE).labels
    assert [(label.text, label.score) for label in labels] == [("mine", None), ("bridges", 0.9)]


def test_labels_and_examples_of_one_feature_stay_few(tmp_path):
    with FeaturePages(tmp_path / "p.sqlite", is_writable=True) as pages:
        for n in range(60):
            told = FeatureDetails(
                FEATURE,
                labels=(Label(f"label {n}"),),
                examples=(Example(("t",), (float(n),)),),
            )
            pages.merge([(FeaturePage(FEATURE), told)])
        details = pages.details(FEATURE)
    assert [label.text for label in details.labels] == [
        f"label {59 - n}" for n in range(MAX_LABELS)
    ]
    assert [example.peak for example in details.examples] == [
        59.0 - n for n in range(MAX_EXAMPLES)
    ]


def test_a_merge_that_breaks_off_leaves_nothing(tmp_path):
    def broken():
        yield FeaturePage(FEATURE), DETAILS
        raise RuntimeError("stop")

    with FeaturePages(tmp_path / "p.sqlite", is_writable=True) as pages:
        with pytest.raises(RuntimeError, match="stop"):
            pages.merge(broken())
        assert pages.page(FEATURE) is None
        assert pages.details(FEATURE) == FeatureDetails(FEATURE)


def test_a_damaged_detail_is_one_sentence(tmp_path):
    with FeaturePages(tmp_path / "p.sqlite", is_writable=True) as pages:
        pages.merge([(PAGE, DETAILS)])
        pages._db.execute("UPDATE feature_examples SET example = '[' || id || ']'")
        with pytest.raises(StoreUnreadable, match="cannot be used"):
            pages.details(FEATURE)
        pages._db.rollback()


def test_empty_fields_change_nothing():
    assert merged(PAGE, FeaturePage(FEATURE)) == PAGE
    told = FeaturePage(FEATURE, "mine", None, "import", 9.0, 0.0)
    assert merged(PAGE, told) == told


# -- the shelf ----------------------------------------------------------------------------


def model_in(folder):
    return ModelCard("m", str(folder), "llama", 2, 8, 9, 64, 1, "float32", "cpu")


def sae_at(source, name=SITE):
    return SaeCard(name, str(source), SITE, "standard", 8, 8)


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("MICROSCOPE_HOME", str(tmp_path / "home"))
    return tmp_path


def fill(store, sae, page, details):
    store.parent.mkdir(parents=True, exist_ok=True)
    feature = FeatureId(sae, 3)
    with FeaturePages(store, is_writable=True) as pages:
        pages.merge([(page, FeatureDetails(feature, *details))])


def test_imported_pages_lie_over_the_model_s_own(home):
    shelf, own = LocalShelf(), sae_at(home / "model" / "saes" / "one")
    feature = FeatureId(SITE, 3)
    fill(home / "model" / "pages.sqlite", SITE,
         FeaturePage(feature, max_activation=6.0), ((Label("bridges"),),))  # fmt: skip
    model = model_in(home / "model")
    assert shelf.pages_of(model, own)[feature].label == "bridges"
    assert shelf.details_of(model, own, 3).labels[0].text == "bridges"
    fill(labels_store(own), SITE, FeaturePage(feature), ((Label("mine", "import"),),))
    page = shelf.pages_of(model, own)[feature]
    assert (page.label, page.max_activation) == ("mine", 6.0)
    assert shelf.details_of(model, own, 3).labels[0].text == "mine"
    assert shelf.details_of(model, own, 4) == FeatureDetails(FeatureId(SITE, 4))


def test_an_sae_under_a_second_name_finds_its_labels(home):
    sae = sae_at("/elsewhere/sae", f"{SITE}#2")
    fill(labels_store(sae), SITE, FeaturePage(FeatureId(SITE, 3)), ((Label("mine"),),))
    pages = LocalShelf().pages_of(model_in(home), sae)
    assert [(str(f), page.label) for f, page in pages.items()] == [(f"{SITE}#2:3", "mine")]
    other = sae_at("/elsewhere/other", f"{SITE}#2")
    assert LocalShelf().pages_of(model_in(home), other) == {}


def test_a_damaged_store_of_imports_is_passed_over(home):
    sae = sae_at("/elsewhere/sae")
    labels_store(sae).parent.mkdir(parents=True)
    labels_store(sae).write_bytes(b"no database at all, but long enough to be looked at")
    assert LocalShelf().pages_of(model_in(home), sae) == {}
    assert LocalShelf().details_of(model_in(home), sae, 3).labels == ()


RELEASE = SaeRelease(
    name="scope",
    repository="maker/scope-saes",
    model="m",
    format="f",
    site="blocks.{layer}.hook_resid_post",
    layers=(1, 12),
    d_in=8,
    path="layer_{layer}/width_16k/average_l0_{l0}",
    l0=(70.0, 80.0),
)


@pytest.mark.parametrize(
    ("source", "layer"),
    [
        ("/c/models--maker--scope-saes/snapshots/a1/layer_1/width_16k/average_l0_70", 1),
        ("/data/scope-saes/layer_12/width_16k/average_l0_80/params.npz", 12),
        ("/data/scope-saes/layer_2/width_16k/average_l0_70", None),
        ("/data/other/layer_1/width_16k/average_l0_70", None),
        ("", None),
    ],
)
def test_a_release_is_recognised_by_its_repository_and_path(source, layer):
    found = release_of(source, [RELEASE])
    assert (found and found[1]) == layer


def test_known_releases_tell_their_l0_and_keep_labels_wherever_the_files_are(home):
    released = next(r for r in load_releases().releases if r.l0 and r.path_of(r.layers[0]))
    layer, name = released.layers[0], released.repository.partition("/")[2]
    here, there = (
        sae_at(f"{root}/{name}/{released.path_of(layer)}") for root in ("/here", "/there")
    )
    assert LocalShelf().published_of(here) == Published(None, released.l0[0])
    assert labels_store(here) == labels_store(there)
    assert LocalShelf().published_of(sae_at("/elsewhere")) is None
    assert labels_store(sae_at("/one")) != labels_store(sae_at("/two"))
