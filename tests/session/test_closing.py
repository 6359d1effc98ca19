"""Closing one of several SAEs leaves the others, their names and their clamps right."""

import pytest

from microscope.core.cards import SaeCard, own_name, unique_name
from microscope.core.features import Clamp, FeatureId
from microscope.session.closing import clamps_without, names_without, sources_without

SITE, OTHER = "blocks.1.hook_resid_post", "blocks.2.hook_resid_post"


def card(name, source):
    return SaeCard(name, source, name.partition("#")[0], "standard", 8, 4)


A, B = card(SITE, "/s/a"), card(f"{SITE}#2", "/s/b")
C, D = card(OTHER, "/t/c"), card(f"{SITE}#3", "/t/d")


def test_what_is_not_open_yet_or_was_refused_is_still_asked_for():
    assert sources_without(("/s/a", "/s/b", "/x"), (A,), SITE) == ("/s/b", "/x")


def test_a_folder_of_several_is_replaced_by_those_that_stay():
    assert sources_without(("/s", "/t"), (A, B, C, D), B.name) == ("/s/a", "/t")
    assert sources_without(("/t", "/s/b", "/s"), (C, D, B, A), D.name) == ("/t/c", "/s/b", "/s")


def test_a_file_in_an_sae_s_folder_is_that_sae():
    assert sources_without(("/s/a/cfg.json", "/t"), (A, C), SITE) == ("/t",)


def test_a_path_from_here_is_the_same_as_a_whole_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    near = card(SITE, str(tmp_path / "near"))
    assert sources_without(("near", "/t"), (near, C), SITE) == ("/t",)


@pytest.mark.parametrize(
    ("closed", "names"),
    [
        (A.name, {B.name: SITE, C.name: OTHER, D.name: f"{SITE}#2"}),
        (B.name, {A.name: SITE, C.name: OTHER, D.name: f"{SITE}#2"}),
        (C.name, {A.name: A.name, B.name: B.name, D.name: D.name}),
    ],
)
def test_saes_of_one_site_move_up(closed, names):
    assert names_without((A, B, C, D), closed) == names


def test_clamps_follow_their_sae_to_its_new_name():
    clamps = [Clamp(FeatureId(sae.name, 5), 2.0, "add") for sae in (A, B, C)]
    unknown = Clamp(FeatureId("not.open.yet", 1), 1.0)
    left = clamps_without((*clamps, unknown), A.name, names_without((A, B, C), A.name))
    assert left == (Clamp(FeatureId(SITE, 5), 2.0, "add"), clamps[2], unknown)


def test_a_taken_name_gets_a_number():
    assert unique_name(SITE, []) == SITE
    assert unique_name(SITE, {SITE}) == B.name
    assert unique_name(SITE, {SITE, B.name}) == D.name
    assert {own_name(name) for name in (SITE, B.name, D.name)} == {SITE}
