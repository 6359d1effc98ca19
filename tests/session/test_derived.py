import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from microscope.core.cards import ModelCard, SaeCard
from microscope.core.features import Clamp, FeatureId
from microscope.core.pages import FeaturePage
from microscope.core.prompts import Token
from microscope.core.readings import FeatureReading, LensReading
from microscope.session import derived
from microscope.session.derived import CellBar, ClampScale, Span
from microscope.session.session import EngineState, WrittenToken

MODEL = ModelCard("m", "/m", "llama", 8, 256, 4096, 512, 7_300_000, "torch.float32", "cpu")
ONE, TWO = FeatureId("a", 1), FeatureId("a", 2)
PAGES = {
    ONE: FeaturePage(ONE, "Bridges", 0.93, "corpus", 10.0, 0.004),
    TWO: FeaturePage(TWO),
}


def reading(sae, indices, activations, error=0.2):
    made = FeatureReading.empty(sae, len(indices), len(indices[0]))
    made.indices[:], made.activations[:] = indices, activations
    made.error_share[:] = error
    return made


READINGS = {
    "a": reading("a", [[1, 2], [2, -1], [1, 7]], [[9, 1], [5, 0], [3, 2]], 0.1),
    "b": reading("b", [[1, -1], [1, -1], [1, -1]], [[4, 0], [6, 0], [8, 0]], [0.2, 0.4, 0.6]),
}


def tiny_lens():
    lens = LensReading.empty(("embed", "blocks.0.hook_resid_post"), (Token(1, "a"),), 2)
    lens.ids[1, 0], lens.p[1, 0], lens.entropy[1, 0] = [5, 6], [0.75, 0.25], 2.0
    return LensReading(
        lens.sites, lens.tokens, lens.ids, lens.p, lens.logsumexp, lens.entropy, {5: " the"}
    )


# -- words ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [(" the", "·the"), ("\n\n", "⏎⏎"), ("\t", "⇥"), ("", "∅"), ("⟨e2⟩", "⟨e2⟩")],
)
def test_white_space_is_made_visible(text, shown):
    assert derived.visible_text(text) == shown


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"),
        (0.0004, "< 0.1 %"),
        (0.012, "1.2 %"),
        (0.123, "12 %"),
        (1, "100 %"),
        (math.nan, "–"),
    ],
)
def test_percent_has_at_most_three_digits(share, text):
    assert derived.percent(share) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (999, "999"), (1500, "1.5 K"), (7_300_000, "7.3 M"), (124_000_000, "124 M"),
     (999_900, "1.0 M"), (1_500_000_000, "1.5 B")],
)  # fmt: skip
def test_counts_are_compact(count, text):
    assert derived.compact_count(count) == text


@pytest.mark.parametrize(
    ("site", "label", "sentence"),
    [
        ("embed", "embed", "before the first layer"),
        ("blocks.3.hook_resid_post", "3", "after layer 3"),
        ("blocks.3.hook_mlp_out", "3 mlp_out", "after layer 3 mlp_out"),
        ("odd", "odd", "after layer odd"),
        ("hook_embed", "embed", "before the first layer"),
    ],
)
def test_sites_are_named_in_words(site, label, sentence):
    assert derived.site_label(site) == label
    assert derived.site_sentence(site) == sentence


def test_two_saes_at_one_site_go_by_their_names():
    one = SaeCard("wide", "/w", "blocks.3.hook_resid_post", "relu", 8, 4)
    other = SaeCard("narrow", "/n", "blocks.3.hook_resid_post", "relu", 4, 4)
    assert derived.sae_label(one, (one,)) == "layer 3"
    assert derived.sae_label(one, (one, other)) == "wide"


def test_features_go_by_label_or_number():
    assert derived.feature_label(ONE, PAGES) == "Bridges"
    assert derived.feature_label(TWO, PAGES) == "feature 2"
    assert derived.feature_label(FeatureId("a", 9), PAGES) == "feature 9"


def test_a_features_facts_tell_what_is_known_and_no_more():
    assert derived.feature_facts(ONE, PAGES).splitlines() == [
        "Bridges",
        "a, feature 1",
        "label from corpus, F1 0.93",
        "largest activation known: 10.00",
        "on at 0.4 % of tokens",
    ]
    assert derived.feature_facts(TWO, PAGES).splitlines() == ["feature 2", "a, feature 2"]


# -- status -----------------------------------------------------------------------------


def test_the_model_in_a_line():
    assert derived.model_line(None) == "No model open"
    assert derived.model_line(MODEL) == "m · 8 layers · 7.3M parameters · float32 · cpu"


@pytest.mark.parametrize(
    ("engine", "line"),
    [
        (EngineState(), "Starting the engine"),
        (EngineState("loading", "Loading", 3, 12), "Loading (3 of 12)"),
        (EngineState("ready", ""), "Ready"),
    ],
)
def test_the_engine_in_a_line(engine, line):
    assert derived.engine_line(engine) == line


def test_exactness_is_claimed_only_where_it_was_found():
    inexact = ModelCard("m", "/m", "x", 1, 1, 1, 1, 1, "f", "cpu", False, False, "8 bits")
    assert derived.exactness_line(None) == ""
    assert derived.exactness_line(MODEL) == "exact"
    assert derived.exactness_line(inexact) == "not exact: 8 bits"


@pytest.mark.parametrize(
    ("model", "engine", "tokens", "title"),
    [
        (None, EngineState(), (), "One moment"),
        (None, EngineState("ready", ""), (), "No model is open"),
        (MODEL, EngineState("ready", ""), (), "Type a prompt above"),
        (MODEL, EngineState("ready", ""), (Token(1, "a"),), "Reading the layers"),
        (MODEL, EngineState("lost", "Gone"), (), "The engine has stopped"),
    ],
)
def test_an_empty_heatmap_says_why(model, engine, tokens, title):
    assert derived.heatmap_hint(model, engine, tokens)[0] == title


def test_before_the_first_reading_nobody_is_asked_for_a_prompt_that_is_there():
    opening = derived.heatmap_hint(MODEL, EngineState("loading", "Opening the SAEs"), ())
    assert opening == ("One moment", "Opening the SAEs")
    reading_it = derived.heatmap_hint(MODEL, EngineState("ready", ""), (), is_reading=True)
    assert reading_it[0] == "Reading the layers"


def test_after_a_model_that_would_not_open_the_way_back_is_named():
    lost = derived.heatmap_hint(None, EngineState("ready", ""), (), can_undo=True)
    assert "Undo" in lost[1]
    assert "Undo" not in derived.heatmap_hint(None, EngineState("ready", ""), ())[1]


# -- lens -------------------------------------------------------------------------------


def test_heat_is_probability_or_entropy_as_a_share_of_the_largest():
    by_p = derived.heat(tiny_lens(), "probability", 100)
    by_entropy = derived.heat(tiny_lens(), "entropy", 100)
    assert np.isnan(by_p[0, 0])
    assert by_p[1, 0] == pytest.approx(0.75)
    assert by_entropy[1, 0] == pytest.approx(2.0 / math.log(100))


def test_shades_keep_zero_for_what_is_missing():
    values = np.array([[np.nan, 0.0, 0.5, 1.0]], np.float32)
    assert derived.shades(values).tolist() == [[0, 1, 128, 255]]
    assert derived.shades(values).dtype == np.uint8


def test_a_cells_bars_are_its_tokens():
    bars = derived.cell_bars(tiny_lens(), 0, 1)
    assert bars == (CellBar("·the", 0.75), CellBar("#6", 0.25))


@pytest.mark.parametrize(("token", "site"), [(0, 0), (1, 1), (0, 2), (-1, 1), (0, -1)])
def test_a_cell_that_is_missing_or_outside_has_no_bars(token, site):
    assert derived.cell_bars(tiny_lens(), token, site) == ()


# -- features ---------------------------------------------------------------------------


def rows(ranked):
    features = [ranked.feature(row) for row in range(len(ranked))]
    return [
        (f.sae, f.index, float(a)) for f, a in zip(features, ranked.activation, strict=True)
    ]


@pytest.mark.parametrize(
    ("positions", "wanted"),
    [
        ([0], [("a", 1, 9.0), ("b", 1, 4.0), ("a", 2, 1.0)]),
        ([1, 2], [("b", 1, 8.0), ("a", 2, 5.0), ("a", 1, 3.0), ("a", 7, 2.0)]),
        ([], []),
        ([99], []),
    ],
)
def test_features_rank_by_their_largest_value_at_the_positions(positions, wanted):
    assert rows(derived.ranked_features(READINGS, positions)) == wanted


def test_no_reading_ranks_nothing():
    assert len(derived.ranked_features({}, [0])) == 0


@pytest.mark.parametrize(
    ("tokens", "wanted"),
    [
        ("b..", [1, 2]),
        ("...", [1, 2]),
        (".b.", [2]),
        (".", [0]),
        ("b", [0]),
        ("", []),
    ],
)
def test_statistics_leave_out_the_first_and_special_tokens(tokens, wanted):
    made = [Token(1, "x", is_special=t == "b") for t in tokens]
    assert derived.counted_tokens(made).tolist() == wanted


@pytest.mark.parametrize(
    ("needle", "wanted"),
    [("", 4), ("  ", 4), ("brid", 1), ("BRIDGE", 1), ("1", 2), ("7", 1), ("zebra", 0)],
)
def test_the_filter_looks_in_labels_and_at_numbers(needle, wanted):
    ranked = derived.ranked_features(READINGS, [0, 1, 2])
    assert len(derived.matching(ranked, needle, PAGES)) == wanted


@pytest.mark.parametrize(
    ("key", "is_descending", "wanted"),
    [
        ("activation", True, [1, 1, 2, 7]),
        ("activation", False, [7, 2, 1, 1]),
        ("index", False, [1, 1, 2, 7]),
        ("label", False, [1, 1, 2, 7]),
        ("label", True, [7, 2, 1, 1]),
    ],
)
def test_rows_sort_by_any_column(key, is_descending, wanted):
    ranked = derived.ranked_features(READINGS, [0, 1, 2])
    ordered = derived.in_order(ranked, key, is_descending, PAGES)
    assert ordered.index.tolist() == wanted


def test_a_feature_is_found_in_its_row_or_not_at_all():
    ranked = derived.ranked_features(READINGS, [0])
    assert ranked.row_of(TWO) == 2
    for absent in (None, FeatureId("a", 7), FeatureId("c", 1)):
        assert ranked.row_of(absent) is None


def test_the_share_of_the_maximum_is_known_only_with_a_maximum():
    assert derived.share_of_maximum(5.0, PAGES[ONE]) == pytest.approx(0.5)
    assert derived.share_of_maximum(5.0, PAGES[TWO]) is None
    assert derived.share_of_maximum(5.0, None) is None


@pytest.mark.parametrize(
    ("positions", "wanted"), [([0], (0.1, 0.2)), ([0, 2], (0.1, 0.4)), ([9], None), ([], None)]
)
def test_error_shares_are_averaged_over_tokens_and_ranged_over_saes(positions, wanted):
    shares = derived.error_shares(READINGS, positions)
    assert shares is None if wanted is None else shares == pytest.approx(wanted)


# -- clamps -----------------------------------------------------------------------------


def test_the_largest_activation_of_a_feature_in_the_prompt():
    assert derived.largest_activation(READINGS, ONE) == 9.0
    assert derived.largest_activation(READINGS, FeatureId("a", 5)) == 0.0
    assert derived.largest_activation(READINGS, FeatureId("c", 1)) == 0.0


@pytest.mark.parametrize(
    ("clamp", "seen", "wanted"),
    [
        (Clamp(ONE, 5.0), 3.0, ClampScale(10.0, -4, 10, " × max", (0, 1))),
        (Clamp(ONE, 5.0, "add"), 3.0, ClampScale(10.0, -4, 10, " × max", (0, 1))),
        (Clamp(ONE, 5.0, "scale"), 3.0, ClampScale(1.0, -4, 10, " × present", (0, 1))),
        (Clamp(TWO, 5.0), 0.0, ClampScale(1.0, -20, 20, "", (0,))),
        (Clamp(TWO, 5.0), 30.0, ClampScale(1.0, -120, 120, "", (0,))),
    ],
)
def test_a_clamps_scale(clamp, seen, wanted):
    assert derived.clamp_scale(clamp, PAGES.get(clamp.feature), seen) == wanted


# -- text -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("baseline", "steered", "left", "right"),
    [
        ([1, 2, 3], [1, 2, 3], (), ()),
        ([1, 2, 3], [1, 9, 3], (Span(1, 2),), (Span(1, 2),)),
        ([1, 2, 3], [1, 3], (Span(1, 2),), ()),
        ([1, 3], [1, 2, 3, 4], (), (Span(1, 2), Span(3, 4))),
        ([], [1], (), (Span(0, 1),)),
    ],
)
def test_changed_spans(baseline, steered, left, right):
    assert derived.changed_spans(baseline, steered) == (left, right)


ids = st.lists(st.integers(0, 4), max_size=20)


@given(ids, ids)
def test_what_is_not_changed_is_the_same_on_both_sides(baseline, steered):
    changes = derived.changed_spans(baseline, steered)
    left, right = map(derived.positions_in, changes)
    kept = [t for i, t in enumerate(baseline) if i not in left]
    assert kept == [t for i, t in enumerate(steered) if i not in right]


@pytest.mark.parametrize(
    ("p", "kl", "tint", "wanted"),
    [
        (0.25, 1.0, "none", 0.0),
        (0.25, 1.0, "probability", 0.75),
        (0.25, 1.0, "kl", 0.5),
        (0.25, 9.0, "kl", 1.0),
        (0.25, None, "kl", 0.0),
    ],
)
def test_tint_strength(p, kl, tint, wanted):
    assert derived.tint_strength(WrittenToken(Token(1, "a"), p, kl), tint) == wanted


def test_a_written_tokens_facts():
    facts = derived.written_facts(WrittenToken(Token(7, " a"), 0.5, 0.25))
    assert facts == "“·a”\nprobability 50 %\nKL from the unclamped model 0.250 nats\ntoken id 7"
    assert "KL" not in derived.written_facts(WrittenToken(Token(7, " a"), 0.5))
