import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import D_MODEL, tiny_model
from tiny_saes import ARCHITECTURES, NORMALISATIONS, random_sae

from microscope.core.errors import ClampRejected, SaeMismatch
from microscope.core.features import Clamp, FeatureId
from microscope.engine.clamping import ClampSet, Target, clamped, editable_positions
from microscope.engine.language_model import LanguageModel
from microscope.engine.tracing import tapped

IDS = torch.tensor([[9, 40, 77, 12, 5, 60]])
SITE = "blocks.1.hook_resid_post"
EVERYWHERE = torch.ones(1, 6, dtype=torch.bool)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return LanguageModel.open(str(tiny_model("gpt2", tmp_path_factory)))


def sae_at(site, architecture="standard", normalisation="none", *, name=None, seed=0):
    return random_sae(
        architecture, normalisation, d_in=D_MODEL, name=name or site, site=site, seed=seed
    )


def hold(sae, *clamps):
    """A clamp set over one SAE; each clamp is (index, value) or (index, value, mode)."""
    return ClampSet.of(
        [Clamp(FeatureId(sae.card.name, i), v, *mode) for i, v, *mode in clamps],
        {sae.card.name: sae},
    )


def bits(x):
    return x.view(torch.int32)


def run(model, clamp_set, editable=EVERYWHERE, ids=IDS, sites=()):
    """Logits of every token and the residuals at sites."""
    with clamped(model.anatomy, clamp_set, editable), tapped(model.anatomy, sites) as taps:
        logits = model.step(ids, keep=0)
    return logits, dict(taps)


def hooks_on(model):
    return [
        hook
        for module in model.network.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]


def residual(n_tokens=5, d_in=8, seed=2):
    return 2 * torch.randn(1, n_tokens, d_in, generator=torch.Generator().manual_seed(seed))


def edited(clamp_set, x, editable=None):
    (edit,) = clamp_set.edits
    return edit.apply(x, torch.ones(x.shape[:2], dtype=bool) if editable is None else editable)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_clamp_is_the_edited_decoding_plus_the_untouched_error(architecture):
    x = residual()
    for normalisation, is_folded in itertools.product(NORMALISATIONS, (False, True)):
        sae = random_sae(architecture, normalisation)
        sae = sae.folded() if is_folded else sae
        f = sae.encode(x)
        target = f.clone()
        target[..., 3], target[..., 8], target[..., 5] = 4.0, 0.0, f[..., 5] * 3
        expected = sae.decode(target, x) + sae.error(x)
        actual = edited(hold(sae, (3, 4.0), (8, 9.0, "ablate"), (5, 3.0, "scale")), x)
        torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def test_holding_a_feature_at_its_present_value_changes_nothing(model):
    for architecture, token in itertools.product(ARCHITECTURES, (2, 5)):
        sae = sae_at(SITE, architecture)
        plain, taps = run(model, ClampSet(), sites=[SITE])
        f = sae.encode(taps[SITE])[0, token]
        index = int(f.argmax())
        assert f[index] > 0
        only = torch.zeros_like(EVERYWHERE)
        only[0, token] = True
        held, _ = run(model, hold(sae, (index, float(f[index]))), only)
        torch.testing.assert_close(held, plain, rtol=1e-4, atol=1e-4)
        moved, _ = run(model, hold(sae, (index, float(f[index]) + 5)), only)
        assert (moved - plain).abs().max() > 0.01


def test_an_edit_of_zero_is_bit_identical_also_for_minus_zero(model):
    sae = sae_at(SITE, "jumprelu")
    sae.activation.threshold[4] = 1e9  # never on, so that ablating it moves nothing
    off = hold(sae, (4, 0.0, "ablate"))
    assert off
    x = residual(d_in=D_MODEL)
    x[0, 1, :4] = -0.0
    assert torch.equal(bits(edited(off, x)), bits(x))
    assert torch.equal(bits(run(model, off)[0]), bits(run(model, ClampSet())[0]))


def test_adding_a_value_and_its_opposite_are_opposite_moves():
    sae, x = random_sae("gated", "layer_norm"), residual()
    up, down = hold(sae, (3, 2.5, "add")), hold(sae, (3, -2.5, "add"))
    delta = up.edits[0].edits[0].delta(x)
    assert torch.equal(delta, -down.edits[0].edits[0].delta(x))
    assert delta.abs().min() > 0


def test_ablating_is_scaling_by_zero_is_clamping_to_zero(model):
    sae = sae_at(SITE)
    by_mode = [
        run(model, hold(sae, (3, value, mode)))[0]
        for mode, value in (("ablate", 7.0), ("scale", 0.0), ("clamp", 0.0))
    ]
    assert torch.equal(by_mode[0], by_mode[1])
    assert torch.equal(by_mode[0], by_mode[2])
    assert not torch.equal(by_mode[0], run(model, ClampSet())[0])


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_two_features_come_from_one_encode_of_the_unedited_stream(architecture):
    sae, x = random_sae(architecture), residual()
    sae.w_dec[7] = 5 * sae.w_enc[:, 3]  # writing 7 would be read by 3
    both = edited(hold(sae, (7, 6.0), (3, 2.0)), x) - x
    apart = sum(edited(hold(sae, (i, v)), x) - x for i, v in ((7, 6.0), (3, 2.0)))
    torch.testing.assert_close(both, apart, rtol=1e-4, atol=1e-3)
    in_turn = edited(hold(sae, (3, 2.0)), edited(hold(sae, (7, 6.0)), x)) - x
    assert (in_turn - both).abs().max() > 1


def test_two_saes_of_a_site_both_encode_the_unedited_stream(model):
    site_before = "blocks.2.hook_resid_pre"  # the same place as SITE under its other name
    saes = {
        "a": sae_at(SITE, name="a"),
        "b": sae_at(SITE, "topk", name="b", seed=1),
        "c": sae_at(site_before, "gated", name="c", seed=2),
    }
    clamps = [Clamp(FeatureId(name, 4), 9.0) for name in saes]
    together = ClampSet.of(clamps, saes)
    assert len(together.edits) == 1
    _, taps = run(model, ClampSet(), sites=[SITE])
    x = taps[SITE]
    moves = [edited(ClampSet.of([clamp], saes), x) - x for clamp in clamps]
    _, taps = run(model, together, sites=[SITE])
    torch.testing.assert_close(taps[SITE], x + sum(moves), rtol=1e-4, atol=1e-3)


def test_a_later_layer_encodes_the_edited_stream(model):
    late_site = "blocks.2.hook_resid_post"
    early, late = sae_at("blocks.0.hook_resid_post"), sae_at(late_site, seed=1)
    clamps = [Clamp(FeatureId(sae.card.name, 2), 20.0) for sae in (late, early)]
    saes = {sae.card.name: sae for sae in (early, late)}
    _, below = run(model, ClampSet.of(clamps[1:], saes), sites=[late_site])
    _, both = run(model, ClampSet.of(clamps, saes), sites=[late_site])
    expected = edited(ClampSet.of(clamps[:1], saes), below[late_site])
    torch.testing.assert_close(both[late_site], expected)


def test_the_middle_of_a_block_and_its_start_can_be_held(model):
    for site in ("blocks.1.hook_resid_mid", "blocks.0.hook_resid_pre"):
        sae = sae_at(site)
        clamp_set = hold(sae, (3, 8.0))
        _, before = run(model, ClampSet(), sites=[site])
        _, after = run(model, clamp_set, sites=[site])
        torch.testing.assert_close(after[site], edited(clamp_set, before[site]))


def test_the_first_position_and_special_tokens_are_left_alone(model):
    special = IDS[0, 3].item()
    editable = editable_positions(IDS, {special, 1_000})
    assert editable.tolist() == [[False, True, True, False, True, True]]
    clamp_set = hold(sae_at("blocks.0.hook_resid_post"), (3, 30.0))
    site = "blocks.0.hook_resid_post"
    _, before = run(model, ClampSet(), sites=[site])
    _, after = run(model, clamp_set, editable, sites=[site])
    is_same = (bits(before[site]) == bits(after[site])).all(-1)
    assert is_same.tolist() == [[True, False, False, True, False, False]]


def test_a_later_stretch_has_no_first_position():
    ids = torch.tensor([[4], [7]])
    assert editable_positions(ids, {7}, start=5).tolist() == [[True], [False]]
    assert editable_positions(ids, frozenset(), start=5).tolist() == [[True], [True]]


def test_rows_of_a_batch_can_be_left_alone_one_by_one(model):
    ids = torch.cat([IDS, IDS, IDS + 1])
    editable = torch.ones(3, 6, dtype=bool)
    editable[0] = False
    plain, _ = run(model, ClampSet(), ids=ids)
    held, _ = run(model, hold(sae_at(SITE), (3, 30.0)), editable, ids=ids)
    assert torch.equal(held[0], plain[0])
    assert not torch.equal(held[1], plain[1])
    assert not torch.equal(held[2], plain[2])


def test_a_decoding_step_of_one_token_is_edited_like_the_whole_text(model):
    clamp_set = hold(sae_at(SITE), (3, 12.0), (5, 2.0, "scale"))
    whole, _ = run(model, clamp_set)
    cache, steps = model.new_cache(), []
    for token in range(6):
        with clamped(model.anatomy, clamp_set, EVERYWHERE[:, :1]):
            steps.append(model.step(IDS[:, token : token + 1], cache)[:, 0])
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=1e-4, atol=1e-4)
    assert (whole - run(model, ClampSet())[0]).abs().max() > 0.1


def test_the_model_is_as_it_was_found_even_after_an_error(model):
    before, hooks = run(model, ClampSet())[0], hooks_on(model)
    sae = sae_at(SITE)
    with (
        pytest.raises(RuntimeError, match="boom"),
        clamped(model.anatomy, hold(sae, (3, 9.0)), EVERYWHERE),
    ):
        raise RuntimeError("boom")
    assert hooks_on(model) == hooks
    saes = {SITE: sae, "far": sae_at("blocks.99.hook_resid_post", name="far")}
    clamps = [Clamp(FeatureId(name, 3), 9.0) for name in saes]
    clamp_set = ClampSet.of(clamps, saes)
    with pytest.raises(SaeMismatch), clamped(model.anatomy, clamp_set, EVERYWHERE):
        pass
    assert hooks_on(model) == hooks
    assert torch.equal(run(model, ClampSet())[0], before)


def test_clamps_that_change_nothing_attach_nothing(model):
    sae = sae_at(SITE)
    idle = ClampSet.of(
        [
            Clamp(FeatureId(SITE, 1), 5.0, is_muted=True),
            Clamp(FeatureId(SITE, 2), 0.0, "add"),
            Clamp(FeatureId(SITE, 3), 1.0, "scale"),
        ],
        {SITE: sae},
    )
    assert not idle
    hooks = hooks_on(model)
    with clamped(model.anatomy, idle, EVERYWHERE):
        assert hooks_on(model) == hooks
    with clamped(model.anatomy, hold(sae, (3, 2.0)), EVERYWHERE):
        assert len(hooks_on(model)) == len(hooks) + 1


def test_adding_needs_no_encoder_at_all():
    sae, x = random_sae("topk", "layer_norm"), residual()
    sae.w_enc.fill_(torch.nan)
    moved = edited(hold(sae, (3, 2.0, "add"), (5, -1.0, "add")), x) - x
    expected = x.std(-1, keepdim=True) * (2 * sae.w_dec[3] - sae.w_dec[5])
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


def test_the_stream_keeps_its_dtype_and_the_edit_is_rounded_once():
    sae, x = random_sae(), residual().bfloat16()
    clamp_set = hold(sae, (3, 4.0))
    moved = edited(clamp_set, x)
    assert moved.dtype == torch.bfloat16
    delta = clamp_set.edits[0].edits[0].delta(x)
    assert delta.dtype == torch.float32
    assert torch.equal(moved, x + delta.bfloat16())


def test_the_unedited_stream_is_not_written_to():
    x = residual()
    before = x.clone()
    edited(hold(random_sae(), (3, 4.0)), x)
    assert torch.equal(x, before)


clamps_of_one_feature = st.lists(
    st.builds(
        Clamp,
        st.just(FeatureId("s", 0)),
        st.floats(-8, 8),
        st.sampled_from(["clamp", "add", "scale", "ablate"]),
    ),
    max_size=5,
)


@given(clamps_of_one_feature, st.floats(-8, 8))
@settings(max_examples=60, deadline=None)
def test_clamps_on_one_feature_act_one_after_the_other(clamps, activation):
    target, expected = Target(), activation
    for clamp in clamps:
        target = target.then(clamp)
        v = clamp.value
        expected = {
            "clamp": v,
            "add": expected + v,
            "scale": expected * v,
            "ablate": 0.0,
        }[clamp.mode]
    assert target.gain * activation + target.offset == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("clamp", "words"),
    [
        (Clamp(FeatureId("other", 1), 1.0), ["other", SITE]),
        (Clamp(FeatureId(SITE, 20), 1.0), ["20", "0 to 19"]),
        (Clamp(FeatureId(SITE, -1), 1.0), ["-1", "0 to 19"]),
        (Clamp(FeatureId(SITE, 1), float("nan")), ["nan", f"{SITE}:1"]),
        (Clamp(FeatureId(SITE, 1), float("inf"), "scale"), ["inf"]),
    ],
)
def test_a_clamp_that_cannot_be_is_refused_in_a_sentence(clamp, words):
    with pytest.raises(ClampRejected) as refusal:
        ClampSet.of([clamp], {SITE: sae_at(SITE)})
    assert all(word in str(refusal.value) for word in words)


def test_a_muted_clamp_may_name_an_sae_that_is_closed():
    assert not ClampSet.of([Clamp(FeatureId("closed", 1), 1.0, is_muted=True)], {})


def test_without_an_open_sae_the_refusal_says_so():
    with pytest.raises(ClampRejected, match="Open SAEs: none"):
        ClampSet.of([Clamp(FeatureId("x", 1), 1.0)], {})
