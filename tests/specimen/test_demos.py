"""How demonstrations are judged."""

from __future__ import annotations

from dataclasses import replace

import pytest

from microscope.core.features import FeatureId
from microscope.core.pages import FeaturePage
from microscope.specimen.demos import (
    FINALISTS,
    KnownRuns,
    Trial,
    best_demos,
    candidates,
    concept_share,
    finalists,
)
from microscope.specimen.recipe import DemoRecipe

RECIPE = DemoRecipe()
SITE = "blocks.1.hook_resid_post"


def _page(index=0, label="about cats", score=0.5, maximum=4.0):
    return FeaturePage(FeatureId(SITE, index), label, score, "F1", maximum)


def _trial(share, readable=1.0, concept="cats", strength=2.0, before=0.0):
    return Trial("One day Tom", _page(), concept, strength, before, share, readable)


def test_the_share_of_a_concept_counts_its_words():
    assert concept_share("The cat saw a kitten.", "cats") == pytest.approx(2 / 5)
    assert concept_share("The ship saw a wave.", "cats") == 0
    assert concept_share("", "cats") == 0


def test_known_runs_tell_text_from_word_salad():
    known = KnownRuns(["The cat sat on the sofa.", "A kitten sat on the mat."])
    assert known.share(["the cat sat on the mat."]) == 1
    assert known.share(["cat cat sat the sat cat"]) == 0
    assert known.share(["too short"]) == 0


@pytest.mark.parametrize(
    ("trial", "is_good"),
    [
        (_trial(0.3), True),
        (_trial(0.3, readable=0.5), False),
        (_trial(0.3, before=0.28), False),
    ],
)
def test_a_trial_is_good_if_the_concept_rises_and_the_text_stays_text(trial, is_good):
    assert trial.is_good(RECIPE) is is_good


def test_a_row_says_what_was_measured():
    row = _trial(0.3, strength=1.5, before=0.02).row()
    assert (row.value, row.max, row.index, row.sae) == (6.0, 4.0, 0, SITE)
    assert "from 2% to 30% of the text" in row.note


def test_each_concept_is_shown_once_and_the_best_first():
    trials = [_trial(0.2), _trial(0.4, strength=3.0), _trial(0.5, concept="rain")]
    rows = best_demos([*trials, _trial(0.9, readable=0.1, concept="snow")], RECIPE)
    assert [row.value for row in rows] == [8.0, 12.0]
    assert len(best_demos(trials, replace(RECIPE, n_wanted=1))) == 1


def test_a_few_trials_of_each_concept_are_measured_again():
    trials = [_trial(0.2 + number / 100) for number in range(FINALISTS + 3)]
    kept = finalists(
        [*trials, _trial(0.3, concept="rain"), _trial(0.01, concept="snow")], RECIPE
    )
    assert [trial.concept for trial in kept].count("cats") == FINALISTS
    assert {trial.concept for trial in kept} == {"cats", "rain"}
    assert trials[0] not in kept


def test_the_best_feature_of_each_concept_label_is_tried():
    pages = [
        _page(1, score=0.5),
        _page(2, score=0.9),
        _page(3, "“cat”", 0.99),
        _page(4, "cats", 0.4),
        _page(5, "rain", 0.4, maximum=0.0),
        _page(6, "", None),
    ]
    tried = {(concept, page.feature.index) for concept, page in candidates(pages)}
    assert tried == {("cats", 2), ("cats", 4)}
