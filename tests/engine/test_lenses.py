import numpy as np
import pytest
import torch
from tiny_models import FAMILIES, open_tiny_model, tiny_model
from transformers import AutoModelForCausalLM

from microscope.core.errors import UserError
from microscope.core.prompts import Prompt
from microscope.core.sites import lens_sites
from microscope.engine import lenses
from microscope.engine.lenses import Lens, top_ids
from microscope.engine.tracing import tapped

TEXT = "The lamp on the harbour wall turns all night, and the cat"  # beyond the tiny windows


@pytest.fixture(params=FAMILIES)
def family(request):
    return request.param


def residuals_of(model):
    """Ids (1, n), and the residual stream at every lens site: n_sites of (n, d_model)."""
    ids = torch.tensor([model.tokenise(Prompt(TEXT))])
    with tapped(model.anatomy, lens_sites(model.card.n_layers)) as taps:
        model.step(ids)
    return ids, [taps[site][0] for site in lens_sites(model.card.n_layers)]


def spread(cells, n_vocabulary):
    """The whole distribution from cells that keep all of it."""
    p = np.zeros((len(cells.ids), n_vocabulary), np.float32)
    np.put_along_axis(p, cells.ids.astype(np.int64), cells.p, axis=1)
    return p


def test_the_last_row_is_the_softmax_of_transformers(family, tmp_path_factory):
    model = open_tiny_model(family, tmp_path_factory)
    plain = AutoModelForCausalLM.from_pretrained(tiny_model(family, tmp_path_factory))
    ids, residuals = residuals_of(model)
    with torch.no_grad():
        expected = plain(input_ids=ids).logits[0].softmax(-1).numpy()
    cells = Lens(model).read_cells(residuals[-1], top=model.card.n_vocabulary)
    assert np.abs(spread(cells, model.card.n_vocabulary) - expected).max() < 1e-5


def final_norm_in_float64(network, family, x):
    """The final norm from its published formula, on the weights alone."""
    name = {
        "gpt2": "transformer.ln_f",
        "gpt_neox": "gpt_neox.final_layer_norm",
        "phi": "model.final_layernorm",
    }.get(family, "model.norm")
    weights = {key: value.double() for key, value in network.state_dict().items()}
    gain, bias = weights[f"{name}.weight"], weights.get(f"{name}.bias")
    config = network.config
    if bias is not None:
        eps = getattr(config, "layer_norm_epsilon", None) or config.layer_norm_eps
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + eps).sqrt() * gain + bias
    gain = 1 + gain if family.startswith("gemma") else gain
    return x / (x.square().mean(-1, keepdim=True) + config.rms_norm_eps).sqrt() * gain


def logits_in_float64(network, family, x):
    weights = {key: value.double() for key, value in network.state_dict().items()}
    logits = final_norm_in_float64(network, family, x.double()) @ weights["lm_head.weight"].T
    logits = logits + weights.get("lm_head.bias", 0)
    cap = 5.0 if family == "gemma2" else None
    return cap * torch.tanh(logits / cap) if cap else logits


def test_every_row_is_norm_and_unembedding_in_float64(family, tmp_path_factory):
    model = open_tiny_model(family, tmp_path_factory)
    for residual in residuals_of(model)[1]:
        logits = logits_in_float64(model.network, family, residual)
        log_p = logits.log_softmax(-1)
        cells = Lens(model).read_cells(residual, top=10)
        expected_p = log_p.exp().numpy()
        ids = np.argsort(-expected_p, axis=1, kind="stable")[:, :10]
        np.testing.assert_array_equal(cells.ids, ids)
        np.testing.assert_allclose(cells.p, np.take_along_axis(expected_p, ids, 1), atol=1e-5)
        np.testing.assert_allclose(cells.logsumexp, logits.logsumexp(-1).numpy(), atol=1e-4)
        entropy = -(log_p.exp() * log_p).sum(-1).numpy()
        np.testing.assert_allclose(cells.entropy, entropy, atol=1e-4)


def test_cells_have_the_types_that_cross_the_pipe(tmp_path_factory):
    model = open_tiny_model("llama", tmp_path_factory)
    cells = Lens(model).read_cells(residuals_of(model)[1][1], top=4)
    assert cells.ids.dtype == np.int32
    assert {a.dtype for a in (cells.p, cells.logsumexp, cells.entropy)} == {np.dtype("<f4")}
    assert cells.ids.shape == cells.p.shape == (len(cells.entropy), 4)


@pytest.mark.parametrize("top", [1, 5, 10, 40])
def test_the_top_is_that_of_a_full_sort_with_equal_ones_by_lower_id(top):
    rng = np.random.default_rng(top)
    logits = rng.integers(-3, 4, (64, 40)).astype(np.float32)  # few values, so ties everywhere
    logits[0] = 0
    logits[1] = np.arange(40)
    ids = np.broadcast_to(np.arange(40), logits.shape)
    expected = np.lexsort((ids, -logits), axis=1)[:, :top]
    np.testing.assert_array_equal(top_ids(torch.from_numpy(logits), top), expected)


def test_never_more_logits_at_once_than_the_bound_allows(tmp_path_factory, monkeypatch):
    model = open_tiny_model("llama", tmp_path_factory)
    residual = torch.cat(residuals_of(model)[1])
    whole = Lens(model).read_cells(residual, top=10)
    n_rows = []

    def watched(anatomy, chunk, unembed=lenses.unembed):
        n_rows.append(len(chunk))
        return unembed(anatomy, chunk)

    monkeypatch.setattr(lenses, "unembed", watched)
    monkeypatch.setattr(lenses, "MAX_LOGIT_BYTES", 7 * 4 * model.card.n_vocabulary)
    pieces = Lens(model).read_cells(residual, top=10)
    assert max(n_rows) == 7
    assert sum(n_rows) == len(residual)
    np.testing.assert_array_equal(pieces.ids, whole.ids)
    np.testing.assert_allclose(pieces.p, whole.p, atol=1e-6)


def test_a_residual_that_is_not_finite_is_a_sentence_and_not_a_nan(tmp_path_factory):
    model = open_tiny_model("llama", tmp_path_factory)
    residual = residuals_of(model)[1][1].clone()
    for bad in (float("nan"), float("inf")):
        residual[3, 0] = bad
        with pytest.raises(UserError, match="no longer finite"):
            Lens(model).read_cells(residual, top=10)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_one_logit_that_is_not_finite_is_enough(bad, tmp_path_factory, monkeypatch):
    model = open_tiny_model("llama", tmp_path_factory)
    logits = torch.randn(3, 50)
    logits[1, 7] = bad
    monkeypatch.setattr(lenses, "unembed", lambda *_: logits)
    with pytest.raises(UserError, match="no longer finite"):
        Lens(model).read_cells(torch.zeros(3, model.card.d_model), top=10)


def test_no_rows_make_no_cells(tmp_path_factory):
    model = open_tiny_model("llama", tmp_path_factory)
    cells = Lens(model).read_cells(torch.zeros(0, model.card.d_model), top=10)
    assert cells.ids.shape == (0, 10)


def test_the_top_is_never_longer_than_the_vocabulary(tmp_path_factory):
    model = open_tiny_model("llama", tmp_path_factory)
    cells = Lens(model).read_cells(residuals_of(model)[1][1], top=10_000)
    assert cells.ids.shape[1] == model.card.n_vocabulary
    np.testing.assert_allclose(cells.p.sum(1), 1, atol=1e-4)
