import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_saes import ARCHITECTURES, NORMALISATIONS, SCALE, K, random_sae, random_weights

import microscope.engine.saes.sae as sae_module
from microscope.engine.saes.activations import JumpReLU, TopK
from microscope.engine.saes.matrices import weighted_rows

EVERY_ARCHITECTURE = pytest.mark.parametrize("architecture", ARCHITECTURES)
EVERY_NORMALISATION = pytest.mark.parametrize("normalisation", NORMALISATIONS)


def residuals(n_tokens=7, d_in=8, seed=5):
    g = torch.Generator().manual_seed(seed)
    return 3 * torch.randn(n_tokens, d_in, generator=g) + 0.5


def normalised_by_hand(mode, x):
    """(norm_in(x), scale of the way out, shift of the way out), float64."""
    n_tokens, d_in = x.shape
    one, zero = np.ones((n_tokens, 1)), np.zeros((n_tokens, 1))
    mean = x.sum(1, keepdims=True) / d_in
    if mode == "none":
        return x, one, zero
    if mode == "centred":
        return x - mean, one, mean
    if mode == "layer_norm":
        sigma = np.sqrt(((x - mean) ** 2).sum(1, keepdims=True) / (d_in - 1))
        return (x - mean) / (sigma + 1e-5), sigma, mean
    if mode == "constant_norm_rescale":
        c = np.sqrt(d_in) / np.sqrt((x**2).sum(1, keepdims=True))
        return x * c, 1 / c, zero
    return x * SCALE, one / SCALE, zero


def activated_by_hand(architecture, w, x2):
    a = x2 @ w["W_enc"]
    if architecture == "gated":
        magnitude = np.maximum(a * np.exp(w["r_mag"]) + w["b_mag"], 0)
        return np.where(a + w["b_gate"] > 0, magnitude, 0)
    p = a + w["b_enc"]
    if architecture == "standard":
        return np.maximum(p, 0)
    if architecture == "jumprelu":
        return np.where(p > w["threshold"], np.maximum(p, 0), 0)
    h = p * np.linalg.norm(w["W_dec"], axis=1) if architecture == "topk_by_length" else p
    kept = np.zeros_like(h)
    for token, row in enumerate(h):
        best = np.argsort(-row)[:K]
        kept[token, best] = np.maximum(row[best], 0)
    return kept


def by_hand(architecture, normalisation, x, *, subtracts_b_dec=True):
    """Activations, reconstruction and what one unit of each feature writes, in float64."""
    w = {name: t.double().numpy() for name, t in random_weights().items()}
    x1, scale, shift = normalised_by_hand(normalisation, x.double().numpy())
    f = activated_by_hand(architecture, w, x1 - w["b_dec"] if subtracts_b_dec else x1)
    rows = w["W_dec"]
    if architecture == "topk_by_length":
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return f, (f @ rows + w["b_dec"]) * scale + shift, scale[:, :, None] * rows


def assert_near(actual, expected):
    np.testing.assert_allclose(actual.numpy(), expected, rtol=2e-4, atol=2e-5)


@EVERY_NORMALISATION
def test_encode_and_decode_equal_the_formulas_in_float64(normalisation):
    x = residuals()
    for architecture, subtracts in itertools.product(ARCHITECTURES, (True, False)):
        sae = random_sae(architecture, normalisation, subtracts_b_dec=subtracts)
        f, x_hat, _ = by_hand(architecture, normalisation, x, subtracts_b_dec=subtracts)
        assert (f > 0).any(), architecture
        assert (f == 0).any(), architecture
        assert_near(sae.encode(x), f)
        assert_near(sae.decode(sae.encode(x), x), x_hat)
        assert_near(sae.error(x), x.double().numpy() - x_hat)


@EVERY_NORMALISATION
def test_folding_keeps_the_reconstruction_and_counts_in_lengths_written(normalisation):
    x = residuals()
    scale = normalised_by_hand(normalisation, x.double().numpy())[1]
    unit = 1 / SCALE if normalisation == "static" else 1
    for architecture in set(ARCHITECTURES) - {"topk"}:
        folded = random_sae(architecture, normalisation).folded()
        f, x_hat, rows = by_hand(architecture, normalisation, x)
        lengths = np.linalg.norm(rows, axis=2) / scale * unit
        assert folded.card.is_folded
        assert_near(folded.decode(folded.encode(x), x), x_hat)
        assert_near(folded.encode(x), f * lengths)
        rows = folded.chosen(torch.arange(20)).rows
        torch.testing.assert_close(rows.norm(dim=1) * unit, torch.ones(20))


@EVERY_NORMALISATION
def test_plain_top_k_keeps_its_rows_because_lengths_would_change_the_choice(normalisation):
    x, folded = residuals(), random_sae("topk", normalisation).folded()
    f, x_hat, _ = by_hand("topk", normalisation, x)
    assert not folded.card.is_folded
    assert_near(folded.encode(x), f)
    assert_near(folded.decode(folded.encode(x), x), x_hat)


@EVERY_ARCHITECTURE
def test_folding_reads_and_copies_no_weights(architecture):
    raw = random_sae(architecture, "static")
    for matrix in (raw.w_enc, raw.w_dec):
        matrix.fill_(torch.nan)
    folded = raw.folded()
    assert folded.w_enc is raw.w_enc
    assert folded.w_dec is raw.w_dec


def test_judging_by_length_needs_no_norms_once_folded():
    w, x = random_weights(), residuals()
    norms = w["W_dec"].norm(dim=-1)
    for normalisation in NORMALISATIONS:
        raw = random_sae("topk_by_length", normalisation)
        lazy = replace(raw, activation=TopK(K, by_length=True)).folded()
        torch.testing.assert_close(lazy.encode(x), raw.folded().encode(x))
        torch.testing.assert_close(lazy.error(x), raw.error(x))
    raw = replace(random_sae(), activation=JumpReLU(w["threshold"] / norms))
    lazy = replace(raw, activation=JumpReLU(w["threshold"], by_length=True)).folded()
    torch.testing.assert_close(lazy.encode(x), raw.encode(x) * norms)
    torch.testing.assert_close(
        lazy.encode_features(x, torch.tensor([4])), lazy.encode(x)[:, [4]]
    )


@pytest.mark.parametrize(
    "activation", [TopK(K, by_length=True), JumpReLU(torch.ones(20), True)]
)
def test_judging_by_length_is_refused_where_lengths_are_not_counted(activation):
    with pytest.raises(TypeError, match="folded"):
        replace(random_sae(), activation=activation).encode(residuals())


@EVERY_ARCHITECTURE
def test_chosen_features_equal_the_columns_of_a_full_encode(architecture):
    x, chosen = residuals(), torch.tensor([3, 19, 0, 7])
    for normalisation in NORMALISATIONS:
        raw = random_sae(architecture, normalisation)
        for sae in (raw, raw.folded()):
            whole = sae.encode(x)
            torch.testing.assert_close(sae.encode_features(x, chosen), whole[:, chosen])


@EVERY_ARCHITECTURE
def test_what_a_feature_writes_is_the_change_of_the_reconstruction(architecture):
    x, chosen = residuals(), torch.tensor([4, 11])
    for normalisation in NORMALISATIONS:
        sae = random_sae(architecture, normalisation)
        before = sae.encode(x)
        after = before.clone()
        after[:, chosen] = torch.tensor([5.0, -2.0])
        amounts = after[:, chosen] - before[:, chosen]
        moved = sae.chosen(chosen).written(amounts, sae.frame(x))
        expected = sae.decode(after, x) - sae.decode(before, x)
        torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated"])
def test_a_local_encode_never_reads_the_other_columns(architecture):
    sae, x = random_sae(architecture), residuals()
    chosen = torch.tensor([2, 9])
    cut = sae.chosen(chosen)
    expected = sae.encode(x)[:, chosen]
    sae.w_enc.fill_(torch.nan)
    sae.b_enc.fill_(torch.nan)
    torch.testing.assert_close(cut.encode(sae.frame(x)), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_arithmetic_is_float32_whatever_the_stream_is(dtype):
    sae, x = random_sae("jumprelu", "layer_norm"), residuals().to(dtype)
    assert sae.encode(x).dtype == torch.float32
    torch.testing.assert_close(sae.encode(x), sae.encode(x.float()))
    torch.testing.assert_close(sae.error(x), sae.error(x.float()))


def test_the_threshold_itself_is_off():
    sae = random_sae("jumprelu")
    pre = sae.activation.threshold[None]
    assert not sae.activation(pre).any()
    assert sae.activation(torch.nextafter(pre, pre + 1)).all()


def test_every_leading_shape_encodes_alike():
    sae, x = random_sae("topk", "layer_norm"), residuals(6)
    torch.testing.assert_close(sae.encode(x.reshape(2, 3, 8)).reshape(6, 20), sae.encode(x))
    torch.testing.assert_close(sae.error(x.reshape(2, 3, 8)).reshape(6, 8), sae.error(x))


def test_a_residual_of_length_zero_is_no_nan():
    for normalisation in ("layer_norm", "constant_norm_rescale"):
        sae = random_sae("standard", normalisation)
        assert torch.isfinite(sae.encode(torch.zeros(1, 8))).all()


@EVERY_ARCHITECTURE
def test_the_strongest_features_are_the_head_of_a_full_sort(architecture):
    sae, x = random_sae(architecture, "layer_norm"), residuals()
    found = sae.strongest(x, 6)
    f, x_hat, _ = by_hand(architecture, "layer_norm", x)
    wide = x.double().numpy()
    for token in range(len(x)):
        n = min(6, int((f[token] > 0).sum()))
        assert list(found.indices[token, :n]) == list(np.argsort(-f[token])[:n])
        assert (found.indices[token, n:] == -1).all()
        assert (found.activations[token, n:] == 0).all()
    np.testing.assert_allclose(found.activations, -np.sort(-f)[:, :6], rtol=2e-4, atol=2e-5)
    np.testing.assert_array_equal(found.n_active, (f > 0).sum(1))
    np.testing.assert_allclose(found.norm, np.linalg.norm(wide, axis=1), rtol=1e-5)
    share = ((wide - x_hat) ** 2).sum(1) / (wide**2).sum(1)
    np.testing.assert_allclose(found.error_share, share, rtol=1e-3, atol=1e-5)


def test_strongest_answers_in_the_types_of_a_reading():
    found = random_sae().strongest(residuals().bfloat16(), 99)
    assert found.indices.shape == (7, 20)
    kinds = [found.indices, found.activations, found.n_active, found.error_share, found.norm]
    assert [str(a.dtype) for a in kinds] == ["int32", "float32", "int32", "float32", "float32"]


def test_strongest_does_not_depend_on_how_tokens_are_chunked(monkeypatch):
    sae, x = random_sae("topk"), residuals(11)
    whole = sae.strongest(x, 4)
    widths = []
    encode = sae_module.Sae.encode_frame
    monkeypatch.setattr(sae_module, "_CHUNK_BYTES", 4 * 20 * 3)
    monkeypatch.setattr(
        sae_module.Sae,
        "encode_frame",
        lambda self, frame: widths.append(len(frame.inside)) or encode(self, frame),
    )
    pieces = sae.strongest(x, 4)
    assert widths == [3, 3, 3, 2]
    np.testing.assert_array_equal(pieces.indices, whole.indices)
    np.testing.assert_allclose(pieces.activations, whole.activations, rtol=1e-5)
    np.testing.assert_allclose(pieces.error_share, whole.error_share, rtol=1e-5)


def test_no_tokens_have_no_features():
    assert random_sae().strongest(torch.empty(0, 8), 5).indices.shape == (0, 5)


@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.001, 0.02, 0.5]),
)
@settings(max_examples=25, deadline=None)
def test_adding_up_few_rows_equals_the_matrix_product(seed, n_tokens, density):
    g = torch.Generator().manual_seed(seed)
    amounts = torch.randn(n_tokens, 2, 300, generator=g)
    amounts *= torch.rand(n_tokens, 2, 300, generator=g) < density
    rows = torch.randn(300, 5, generator=g)
    product = (amounts.double() @ rows.double()).float()
    torch.testing.assert_close(weighted_rows(amounts, rows), product, rtol=1e-4, atol=1e-4)


@given(st.integers(0, 10_000), st.floats(0.05, 20), st.sampled_from(ARCHITECTURES))
@settings(max_examples=40, deadline=None)
def test_layer_norm_makes_activations_blind_to_size_and_mean(seed, size, architecture):
    sae, x = random_sae(architecture, "layer_norm"), residuals(3, seed=seed)
    torch.testing.assert_close(sae.encode(size * x + 3), sae.encode(x), rtol=1e-2, atol=1e-2)
