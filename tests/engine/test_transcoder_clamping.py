import itertools
from dataclasses import replace

import msgspec
import pytest
import torch
from tiny_models import D_MODEL, N_LAYERS, open_tiny_model
from tiny_saes import card, random_sae, random_weights

from microscope.core.errors import ClampRejected, SaeMismatch
from microscope.core.features import Clamp, FeatureId
from microscope.core.messages import FeaturesRead, Read
from microscope.core.prompts import Prompt
from microscope.engine.clamping import ClampSet, clamped
from microscope.engine.reading import read
from microscope.engine.saes.activations import JumpReLU, ReLU, TopK
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.transcoder import (
    CrossLayerTranscoder,
    LayerOfCrossLayer,
    Transcoder,
)
from microscope.engine.tracing import tapped

N_FEATURES = 20
IDS = torch.tensor([[9, 40, 77, 12, 5, 60]])
EVERYWHERE = torch.ones(1, 6, dtype=torch.bool)
PAIRS = (
    ("hook_resid_mid", "hook_mlp_out"),
    ("ln2.hook_normalized", "hook_mlp_out"),
    ("mlp.hook_in", "mlp.hook_out"),
    ("hook_resid_pre", "hook_resid_mid"),
    ("hook_resid_mid", "hook_resid_post"),
)
EVERY_PAIR = pytest.mark.parametrize("hooks", PAIRS, ids="->".join)


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def model(request, tmp_path_factory):
    return open_tiny_model(request.param, tmp_path_factory)


def place(layer, hook):
    return f"blocks.{layer}.{hook}"


def random_transcoder(
    hooks=PAIRS[0], layer=1, *, activation=None, skips=True, name="t", seed=0
):
    w = random_weights(D_MODEL, N_FEATURES, seed)
    g = torch.Generator().manual_seed(seed + 50)
    kind = {
        "jumprelu": JumpReLU(w["threshold"]),
        "topk": TopK(3),
        None: ReLU(),
    }[activation]
    own = card(N_FEATURES, D_MODEL, name=name, site=place(layer, hooks[0]))
    return Transcoder(
        card=msgspec.structs.replace(own, site_out=place(layer, hooks[1])),
        w_enc=w["W_enc"],
        b_enc=w["b_enc"],
        w_dec=w["W_dec"],
        b_dec=w["b_dec"],
        activation=kind,
        normalisation=Unnormalised(),
        subtracts_b_dec=False,
        w_skip=torch.randn(D_MODEL, D_MODEL, generator=g) if skips else None,
    )


def random_clt(hooks=PAIRS[0]):
    """A layer of a cross-layer transcoder for every block."""
    layers = []
    for layer in range(N_LAYERS):
        encoder = random_transcoder(hooks, layer, skips=False, name=f"clt{layer}", seed=layer)
        g = torch.Generator().manual_seed(layer + 90)
        rows = torch.randn(N_FEATURES, N_LAYERS - layer, D_MODEL, generator=g)
        layers.append(LayerOfCrossLayer(encoder, rows))
    return [CrossLayerTranscoder.of(tuple(layers[: n + 1])) for n in range(N_LAYERS)]


def hold(saes, *clamps):
    """Each clamp is (SAE, index, value) or (SAE, index, value, mode)."""
    return ClampSet.of(
        [Clamp(FeatureId(sae.card.name, i), v, *mode) for sae, i, v, *mode in clamps],
        {sae.card.name: sae for sae in saes},
    )


def run(model, clamp_set, sites=(), editable=EVERYWHERE, ids=IDS):
    with clamped(model.anatomy, clamp_set, editable), tapped(model.anatomy, sites) as taps:
        logits = model.step(ids, keep=0)
    return logits, dict(taps)


def bits(x):
    return x.view(torch.int32)


def hooks_on(model):
    return [
        hook
        for module in model.network.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]


@EVERY_PAIR
@pytest.mark.parametrize("activation", [None, "jumprelu", "topk"])
def test_a_clamp_moves_the_output_by_what_the_input_lacks(model, hooks, activation):
    sae = random_transcoder(hooks, activation=activation)
    site, site_out = sae.sites
    _, plain = run(model, ClampSet(), sae.sites)
    clamps = ((3, 7.0, "clamp"), (8, 2.0, "add"), (5, -3.0, "scale"), (11, 0.0, "ablate"))
    _, held = run(model, hold([sae], *((sae, *clamp) for clamp in clamps)), sae.sites)
    f = sae.encode(plain[site])
    target = f.clone()
    target[..., 3], target[..., 11] = 7.0, 0.0
    target[..., 8] += 2.0
    target[..., 5] *= -3.0
    expected = plain[site_out] + (target - f) @ sae.w_dec
    torch.testing.assert_close(held[site], plain[site])
    torch.testing.assert_close(held[site_out], expected, rtol=1e-4, atol=1e-4)
    reconstructed = sae.decode(target, plain[site]) + sae.error(plain[site], plain[site_out])
    torch.testing.assert_close(held[site_out], reconstructed, rtol=1e-4, atol=1e-3)


@EVERY_PAIR
def test_holding_a_feature_at_its_present_value_changes_nothing(model, hooks):
    for activation, token in itertools.product((None, "topk"), (2, 5)):
        sae = random_transcoder(hooks, activation=activation)
        plain, taps = run(model, ClampSet(), sae.sites)
        f = sae.encode(taps[sae.card.site])[0, token]
        index = int(f.argmax())
        assert f[index] > 0
        only = torch.zeros_like(EVERYWHERE)
        only[0, token] = True
        held, _ = run(model, hold([sae], (sae, index, float(f[index]))), editable=only)
        torch.testing.assert_close(held, plain, rtol=1e-4, atol=1e-4)
        moved, _ = run(model, hold([sae], (sae, index, float(f[index]) + 9)), editable=only)
        assert (moved - plain).abs().max() > 0.01


@EVERY_PAIR
def test_an_edit_of_zero_is_bit_identical(model, hooks):
    sae = random_transcoder(hooks, activation="jumprelu")
    sae.activation.threshold[4] = 1e9  # never on, so that ablating it moves nothing
    off = hold([sae], (sae, 4, 0.0, "ablate"))
    assert off
    assert torch.equal(bits(run(model, off)[0]), bits(run(model, ClampSet())[0]))


def test_tokens_that_may_not_be_edited_come_back_bit_by_bit(model):
    sae, editable = random_transcoder(), EVERYWHERE.clone()
    editable[0, [0, 3]] = False
    _, plain = run(model, ClampSet(), sae.sites)
    _, held = run(model, hold([sae], (sae, 3, 30.0)), sae.sites, editable)
    is_same = (bits(plain[sae.card.site_out]) == bits(held[sae.card.site_out])).all(-1)
    assert is_same.tolist() == [[True, False, False, True, False, False]]


def test_a_transcoder_encodes_what_an_sae_at_its_input_has_edited(model):
    sae = random_transcoder()
    site, site_out = sae.sites
    before = random_sae(d_in=D_MODEL, name="before", site=site, seed=4)
    edit_before = ((before, 2, 25.0),)
    _, edited = run(model, hold([before], *edit_before), sae.sites)
    for clamps in (((sae, 3, 7.0), *edit_before), (*edit_before, (sae, 3, 7.0))):
        _, both = run(model, hold([before, sae], *clamps), sae.sites)
        f = sae.encode(edited[site])[..., [3]]
        expected = edited[site_out] + (7.0 - f) * sae.w_dec[3]
        torch.testing.assert_close(both[site_out], expected, rtol=1e-4, atol=1e-3)


def test_a_modules_path_names_the_places_too(model):
    path = {"gpt2": "transformer.h.1.mlp", "llama": "model.layers.1.mlp"}[
        model.network.config.model_type
    ]
    by_hook = random_transcoder(("mlp.hook_in", "mlp.hook_out"))
    by_path = replace(
        by_hook,
        card=msgspec.structs.replace(
            by_hook.card, site=f"module:{path}.input", site_out=f"module:{path}.output"
        ),
    )
    logits = [run(model, hold([sae], (sae, 3, 7.0)))[0] for sae in (by_hook, by_path)]
    assert torch.equal(*logits)
    assert not torch.equal(logits[0], run(model, ClampSet())[0])


def test_an_sae_and_a_transcoder_at_one_output_add_up(model):
    sae = random_transcoder()
    site_out = sae.card.site_out
    local = random_sae(d_in=D_MODEL, name="local", site=site_out, seed=4)
    _, plain = run(model, ClampSet(), [site_out])
    moves = [
        run(model, hold([sae, local], clamp), [site_out])[1][site_out] - plain[site_out]
        for clamp in ((sae, 3, 7.0), (local, 5, 9.0))
    ]
    _, both = run(model, hold([sae, local], (sae, 3, 7.0), (local, 5, 9.0)), [site_out])
    torch.testing.assert_close(
        both[site_out], plain[site_out] + sum(moves), rtol=1e-4, atol=1e-3
    )


def test_decoding_a_token_at_a_time_is_edited_like_the_whole_text(model):
    sae = random_transcoder(activation="topk")
    clamp_set = hold([sae], (sae, 3, 12.0), (sae, 5, 2.0, "scale"))
    whole, _ = run(model, clamp_set)
    cache, steps = model.new_cache(), []
    for token in range(6):
        with clamped(model.anatomy, clamp_set, EVERYWHERE[:, :1]):
            steps.append(model.step(IDS[:, token : token + 1], cache)[:, 0])
    torch.testing.assert_close(torch.stack(steps, 1), whole, rtol=1e-4, atol=1e-4)
    assert (whole - run(model, ClampSet())[0]).abs().max() > 0.1


@pytest.mark.parametrize("layer", range(N_LAYERS))
def test_a_cross_layer_feature_moves_the_output_of_its_block_and_all_later_ones(model, layer):
    """By hand: at the end of each block, the row that belongs to it, from one encode."""
    sae = random_clt()[layer]
    _, plain = run(model, ClampSet(), [sae.card.site])
    amount = 7.0 - sae.encode(plain[sae.card.site])[..., [3]]
    edits = [
        model.anatomy.blocks[m].register_forward_hook(
            adds(amount, sae.layers[layer].rows[3, n])
        )
        for n, m in enumerate(range(layer, N_LAYERS))
    ]
    by_hand = model.step(IDS, keep=0)
    for edit in edits:
        edit.remove()
    held, _ = run(model, hold([sae], (sae, 3, 7.0)))
    torch.testing.assert_close(held, by_hand, rtol=1e-4, atol=1e-4)
    assert (held - run(model, ClampSet())[0]).abs().max() > 0.1


def adds(amount, row):
    def hook(_module, _args, output):
        if isinstance(output, tuple):
            return (output[0] + amount * row, *output[1:])
        return output + amount * row

    return hook


def test_a_cross_layer_feature_above_encodes_what_those_below_have_changed(model):
    low, _, high = random_clt()
    _, below = run(model, hold([low], (low, 2, 30.0)), high.sites)
    _, both = run(model, hold([low, high], (high, 5, 4.0), (low, 2, 30.0)), high.sites)
    f = high.encode(below[high.card.site])[..., [5]]
    expected = below[high.card.site_out] + (4.0 - f) * high.layers[-1].rows[5, 0]
    torch.testing.assert_close(both[high.card.site_out], expected, rtol=1e-4, atol=1e-3)


def test_a_cross_layer_feature_at_its_present_value_changes_nothing(model):
    sae, token = random_clt()[0], 4
    plain, taps = run(model, ClampSet(), [sae.card.site])
    f = sae.encode(taps[sae.card.site])[0, token]
    only = torch.zeros_like(EVERYWHERE)
    only[0, token] = True
    held, _ = run(model, hold([sae], (sae, int(f.argmax()), float(f.max()))), editable=only)
    torch.testing.assert_close(held, plain, rtol=1e-4, atol=1e-4)
    off = hold([sae], (sae, int(f.argmin()), 0.0, "ablate"))
    assert f.min() == 0
    assert torch.equal(bits(run(model, off, editable=only)[0]), bits(plain))


def test_the_model_is_as_it_was_found_even_after_an_error(model):
    before, hooks = run(model, ClampSet())[0], hooks_on(model)
    transcoder, clt = random_transcoder(), random_clt()
    far = random_transcoder(layer=99, name="far")
    clamp_set = hold([transcoder, *clt], (transcoder, 3, 9.0), (clt[0], 2, 9.0))
    with clamped(model.anatomy, clamp_set, EVERYWHERE):
        assert len(hooks_on(model)) > len(hooks)
    assert hooks_on(model) == hooks
    with (
        pytest.raises(RuntimeError, match="boom"),
        clamped(model.anatomy, clamp_set, EVERYWHERE),
    ):
        raise RuntimeError("boom")
    assert hooks_on(model) == hooks
    both = hold([transcoder, far], (transcoder, 3, 9.0), (far, 3, 9.0))
    with pytest.raises(SaeMismatch), clamped(model.anatomy, both, EVERYWHERE):
        pass
    assert hooks_on(model) == hooks
    assert torch.equal(run(model, ClampSet())[0], before)


def test_a_transcoder_that_writes_before_it_reads_is_refused_in_a_sentence(model):
    sae, hooks = random_transcoder(("hook_resid_post", "hook_resid_pre")), hooks_on(model)
    with pytest.raises(ClampRejected, match=r"blocks\.1\.hook_resid_post.*only after"):
        run(model, hold([sae], (sae, 3, 9.0)))
    assert hooks_on(model) == hooks


@pytest.mark.parametrize("kind", ["transcoder", "clt"])
def test_a_reading_tells_the_error_of_what_is_written(model, kind):
    saes = [random_transcoder()] if kind == "transcoder" else random_clt()
    request = Read(run_id=1, prompt=Prompt("The lamp on the harbour"), max_features=4)
    events = list(read(model, {sae.card.name: sae for sae in saes}, request))
    found = {event.sae: event for event in events if isinstance(event, FeaturesRead)}
    ids = torch.tensor([model.tokenise(request.prompt)])
    sites = [site for sae in saes for site in sae.sites]
    _, taps = run(model, ClampSet(), sites, torch.ones_like(ids, dtype=torch.bool), ids)
    for sae in saes:
        y = taps[sae.card.site_out][0]
        x_hat = by_hand(sae, {site: tensor[0] for site, tensor in taps.items()})
        share = (y - x_hat).square().sum(-1) / y.square().sum(-1)
        event = found[sae.card.name]
        torch.testing.assert_close(torch.tensor(event.error_share), share, rtol=1e-4, atol=1e-5)
        strongest = sae.encode(taps[sae.card.site][0]).max(-1).values
        torch.testing.assert_close(torch.tensor(event.activations[:, 0]), strongest)


def by_hand(sae, at):
    if not isinstance(sae, CrossLayerTranscoder):
        x = at[sae.card.site]
        return sae.encode(x) @ sae.w_dec + sae.b_dec + x @ sae.w_skip.T
    own = len(sae.layers) - 1
    return sae.b_dec + sum(
        layer.encoder.encode(at[layer.encoder.card.site]) @ layer.rows[:, own - n]
        for n, layer in enumerate(sae.layers)
    )
