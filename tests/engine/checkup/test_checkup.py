"""A right SAE passes; one used wrongly is told apart, with the reason."""

import math
from dataclasses import replace

import msgspec
import pytest
import torch
import transformers
from pca_saes import TICK, activations, pca_sae, result_of, saturating_sae
from tiny_models import (
    CONTEXT,
    D_MODEL,
    FAMILIES,
    open_tiny_model,
    save_tiny_model,
    tiny_model,
)

from microscope.core.cards import SaeCard
from microscope.core.checkup import Published
from microscope.core.errors import NotReady
from microscope.core.messages import CheckedUp, CheckUp, Progress
from microscope.core.sites import resid_post
from microscope.engine.checkup import check_up
from microscope.engine.checkup.checking import SAES_AT_ONCE, groups
from microscope.engine.checkup.documents import (
    DOCUMENTS,
    FILE,
    MAX_BYTES,
    documents_for,
)
from microscope.engine.checkup.fit import Fit, measure
from microscope.engine.checkup.model_checks import check_start, log_probability_limit
from microscope.engine.checkup.published import published_values
from microscope.engine.checkup.verdicts import Explanation, verdict
from microscope.engine.language_model import LanguageModel
from microscope.engine.model_engine import ModelEngine
from microscope.engine.saes.activations import ReLU
from microscope.engine.saes.normalisations import Centred, Unnormalised
from microscope.engine.saes.transcoder import Transcoder

FIRST, SECOND = resid_post(0), resid_post(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return open_tiny_model("gpt2", tmp_path_factory)


@pytest.fixture(scope="module")
def seen(model):
    return activations(model, FIRST, SECOND)


def findings(model, saes=(), published=None):
    saes = {f"sae {n}": rename(sae, f"sae {n}") for n, sae in enumerate(saes)}
    events = list(check_up(model, saes, CheckUp(run_id=5, published=published or {})))
    assert {event.run_id for event in events} == {5}
    assert all(isinstance(event, Progress) for event in events[:-1])
    assert isinstance(events[-1], CheckedUp)
    return {finding.name: finding for finding in events[-1].findings}


def rename(sae, name):
    return replace(sae, card=msgspec.structs.replace(sae.card, name=name))


def used_at(sae, site):
    return replace(sae, card=msgspec.structs.replace(sae.card, site=site))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_passes_all_checks_of_the_model(tmp_path_factory, family):
    found = findings(open_tiny_model(family, tmp_path_factory))
    assert list(found) == ["Logits", "Top row of the layers", "Edits", "Start of the text"]
    assert all(finding.passed for finding in found.values()), found
    assert found["Edits"].value == 0


def test_a_right_sae_passes_with_its_numbers_in_words(model, seen):
    found = findings(model, [pca_sae(seen[FIRST], FIRST)])["sae 0"]
    assert found.passed
    assert found.value > 0.85
    assert found.sentence.startswith("Explained variance 0.91 here; 16 features on")


def test_explained_variance_is_that_of_a_float64_computation(model, seen):
    sae, x = pca_sae(seen[FIRST], FIRST), seen[FIRST].double()
    axes = sae.w_dec[:16].double()
    mean = sae.b_dec.double()
    error = (x - mean) - (x - mean) @ axes.T @ axes
    expected = 1 - error.square().sum(1).mean() / (
        x.square().sum(1).mean() - x.mean(0).square().sum()
    )
    fit = result_of(measure(sae, seen, TICK))
    assert fit.explained_variance == pytest.approx(float(expected), abs=1e-6)
    assert fit.l0 == 16


def test_an_sae_of_the_layer_before_is_told_apart_and_the_layer_named(model, seen):
    sae = used_at(pca_sae(seen[FIRST], FIRST), SECOND)
    found = findings(model, [sae], {"sae 0": Published(explained_variance=0.9)})["sae 0"]
    assert not found.passed
    assert found.sentence == (
        "Explained variance 0.39 here, 0.90 published: this SAE was probably trained on "
        "blocks.1.hook_resid_pre, which would explain 0.91."
    )


def test_an_sae_of_the_layer_after_is_told_apart(model, seen):
    sae = used_at(pca_sae(seen[SECOND], SECOND), FIRST)
    found = findings(model, [sae])["sae 0"]
    assert not found.passed
    assert f"trained on {SECOND}" in found.sentence


@pytest.fixture(scope="module")
def drifting(tmp_path_factory):
    """A network whose words push the mean of the residual stream, which LayerNorm ignores."""
    model = LanguageModel.open(str(tiny_model("gpt2", tmp_path_factory)), device="cpu")
    generator = torch.Generator().manual_seed(1)
    weight = model.network.transformer.wpe.weight
    with torch.no_grad():
        weight += 20 * torch.randn(len(weight), 1, generator=generator)
    return model


def test_centred_training_is_recognised_and_centring_puts_it_right(drifting):
    x = activations(drifting, FIRST)[FIRST]
    sae = pca_sae(x - x.mean(dim=-1, keepdim=True), FIRST)
    found = findings(drifting, [sae, replace(sae, normalisation=Centred())])
    raw, centred = found["sae 0"], found["sae 1"]
    assert not raw.passed
    assert "was probably trained with centred weights" in raw.sentence
    assert centred.passed
    wrongly = replace(pca_sae(x, FIRST, n_axes=1), normalisation=Centred())
    found = findings(drifting, [wrongly])["sae 0"]
    assert not found.passed
    assert "not centred" in found.sentence


def test_an_sae_of_scaled_activations_is_recognised(model, seen):
    x = seen[SECOND].float()
    scaled = x * math.sqrt(x.shape[1]) / x.norm(dim=-1).mean()
    found = findings(model, [saturating_sae(scaled, SECOND)])["sae 0"]
    assert not found.passed
    assert "scaled to a mean length" in found.sentence
    assert findings(model, [saturating_sae(x, SECOND)])["sae 0"].passed


def test_an_sae_of_another_model_is_recognised(model, tmp_path_factory):
    other = activations(open_tiny_model("gemma", tmp_path_factory), SECOND)[SECOND]
    found = findings(model, [pca_sae(1e3 + 9 * other, SECOND)])["sae 0"]
    assert not found.passed
    assert found.value < 0
    assert "made for another model" in found.sentence


def test_many_saes_share_the_passes_and_each_gets_its_finding(model, seen):
    sae = pca_sae(seen[FIRST], FIRST, n_axes=30)
    found = findings(model, [sae] * (SAES_AT_ONCE + 1))
    assert list(found)[4:] == [f"sae {n}" for n in range(SAES_AT_ONCE + 1)]
    assert groups(tuple("abcdefghi")) == [tuple("abcdefgh"), ("i",)]


def test_a_broken_sae_is_called_damaged(model, seen):
    sae = pca_sae(seen[FIRST], FIRST)
    broken = replace(sae, w_dec=sae.w_dec * math.nan)
    found = findings(model, [broken])["sae 0"]
    assert not found.passed
    assert "not finite" in found.sentence
    assert "damaged" in found.sentence


def test_a_model_whose_lens_or_logits_are_off_is_amber(tmp_path_factory, monkeypatch):
    model = LanguageModel.open(str(tiny_model("llama", tmp_path_factory)), device="cpu")
    finish = type(model.anatomy).finish_logits
    monkeypatch.setattr(
        type(model.anatomy), "finish_logits", lambda self, x: 1.5 * finish(self, x)
    )
    found = findings(model)
    assert not found["Top row of the layers"].passed
    assert "other probabilities" in found["Top row of the layers"].sentence
    assert found["Logits"].passed


def test_a_second_start_token_is_amber(tmp_path_factory, monkeypatch):
    model = LanguageModel.open(str(tiny_model("llama", tmp_path_factory)), device="cpu")
    encode = model.tokeniser.encode
    monkeypatch.setattr(
        model.tokeniser, "encode", lambda prompt: (model.bos_id, *encode(prompt))
    )
    finding = check_start(model)
    assert not finding.passed
    assert "begins with 2 start tokens" in finding.sentence


def test_nothing_is_left_on_the_network(model, seen):
    run = check_up(model, {"a": pca_sae(seen[FIRST], FIRST)}, CheckUp(run_id=1))
    for _ in range(3):
        next(run)
    run.close()
    for module in model.network.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_without_a_model_there_is_nothing_to_check():
    with pytest.raises(NotReady, match="Open one"):
        list(ModelEngine().handle(CheckUp(run_id=1)))


@pytest.mark.parametrize(
    ("fit", "published", "explanations", "passed", "words"),
    [
        (Fit(0.8, 60), Published(0.85, 65), (), True, "0.80 here, 0.85 published; 60 feat"),
        (Fit(0.6, 60), Published(0.85, 65), (), False, "0.70 or more was expected"),
        (Fit(0.8, 60), Published(), (), True, "0.80 here; 60 features"),
        (Fit(0.4, 60), Published(), (), False, "0.50 or more was expected"),
        (Fit(0.4, 60), Published(0.42), (), True, "0.42 published"),
        (Fit(0.8, 900), Published(), (), False, "900 features on at a token: so many"),
        (Fit(0.8, 900), Published(None, 800), (), True, "800 published"),
        (Fit(0.8, 900), Published(None, 90), (), False, "far from the published"),
        (Fit(0.8, 20), Published(None, 90), (), False, "far from the published"),
        (Fit(-2.0, 60), Published(), (Fit(0.3, 9),), False, "another model"),
        (Fit(math.nan, 60), Published(), (Fit(0.8, 9),), False, "would explain 0.80"),
        (Fit(0.8, 60), Published(), (Fit(0.85, 9),), True, ""),
        (Fit(0.8, 60), Published(), (Fit(0.95, 9),), False, "would explain 0.95"),
        (Fit(0.45, 60), Published(), (Fit(0.51, 9),), False, "was expected"),
    ],
)
def test_verdicts(fit, published, explanations, passed, words):
    others = tuple(Explanation(other, "it was so") for other in explanations)
    finding = verdict("s", fit, published, others)
    assert finding.passed is passed, finding
    assert words in finding.sentence
    assert finding.sentence.endswith(".")


def test_published_values_are_read_from_the_folder_unless_told(tmp_path):
    def card(path):
        return SaeCard("s", str(path), FIRST, "standard", 8, 8)

    folder = tmp_path / "layer_2" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    assert published_values(card(folder), None) == Published(None, 71)
    assert published_values(card(folder / "params.npz"), None) == Published(None, 71)
    (folder / "eval_results.json").write_text('{"l0": 40.5, "frac_variance_explained": 0.8}')
    assert published_values(card(folder), None) == Published(0.8, 40.5)
    assert published_values(card(folder), Published(0.9)) == Published(0.9, 40.5)
    for nonsense in ('{"l0": "x", "frac_variance_explained": NaN}', "[]", "{", "[" * 99_999):
        (folder / "eval_results.json").write_text(nonsense)
        assert published_values(card(folder), None) == Published(None, 71)
    assert published_values(card("memory"), None) == Published()


def test_a_model_may_bring_its_own_texts_and_nonsense_is_passed_over(tmp_path):
    assert documents_for(str(tmp_path)) == DOCUMENTS
    path = tmp_path / FILE
    path.write_text('["One text.", "", "Another."]')
    assert documents_for(str(tmp_path)) == ("One text.", "Another.")
    for nonsense in (
        "{}",
        "[1]",
        "[",
        "[" * 9_999,
        "[]",
        '[""]',
        '["' + "x" * MAX_BYTES + '"]',
    ):
        path.write_text(nonsense)
        assert documents_for(str(tmp_path)) == DOCUMENTS
    path.unlink()
    path.mkdir()
    assert documents_for(str(tmp_path)) == DOCUMENTS


def test_half_precision_may_differ_by_its_last_bits_only():
    assert log_probability_limit(torch.float32, 30.0) == 1e-3
    assert 0.5 < log_probability_limit(torch.bfloat16, 30.0) < 1.0


SIZES = {"hidden_size": D_MODEL, "num_hidden_layers": 2}
STATE_SPACE = {
    "mamba": lambda: transformers.MambaConfig(**SIZES, state_size=4, time_step_rank=4),
    "rwkv": lambda: transformers.RwkvConfig(
        **SIZES, attention_hidden_size=D_MODEL, context_length=CONTEXT, rescale_every=2
    ),
}


@pytest.mark.parametrize("kind", STATE_SPACE)
def test_state_space_models_are_checked_too(tmp_path, kind):
    folder = save_tiny_model(tmp_path / kind, STATE_SPACE[kind](), "gpt_neox")
    model = LanguageModel.open(str(folder), device="cpu")
    x = activations(model, SECOND)[SECOND]
    found = findings(model, [pca_sae(x, SECOND)])
    assert len(found) == 5
    assert all(finding.passed for finding in found.values()), found


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_passes(tmp_path_factory, dtype):
    folder = tiny_model("qwen3", tmp_path_factory)
    model = LanguageModel.open(str(folder), device="cpu", dtype=dtype)
    x = activations(model, SECOND)[SECOND]
    found = findings(model, [pca_sae(x, SECOND)])
    assert all(finding.passed for finding in found.values()), found


def test_an_sae_that_only_reads_a_module_is_measured(tmp_path_factory):
    model = open_tiny_model("llama", tmp_path_factory)
    site = "module:model.layers.1.mlp.down_proj.input"
    x = activations(model, site)[site]
    found = findings(model, [pca_sae(x, site, n_axes=40)])["sae 0"]
    assert found.passed, found


def test_a_transcoder_is_measured_on_what_it_reconstructs(tmp_path_factory):
    model = open_tiny_model("llama", tmp_path_factory)
    into, out = "blocks.1.hook_resid_mid", "blocks.1.hook_mlp_out"
    x, y = (part.float() for part in activations(model, into, out).values())
    whole = torch.cat((x, torch.ones(len(x), 1)), dim=1)
    linear = torch.linalg.lstsq(whole, y).solution
    rows = torch.eye(D_MODEL)
    transcoder = Transcoder(
        card=SaeCard("t", "memory", into, "transcoder", D_MODEL, D_MODEL, site_out=out),
        w_enc=torch.zeros(D_MODEL, D_MODEL),
        b_enc=torch.zeros(D_MODEL),
        w_dec=rows,
        b_dec=linear[-1],
        activation=ReLU(),
        normalisation=Unnormalised(),
        subtracts_b_dec=False,
        w_skip=linear[:-1].T.contiguous(),
    )
    expected = 1 - (y - whole @ linear).square().sum() / (y - y.mean(0)).square().sum()
    fit = result_of(measure(transcoder, {into: x, out: y}, TICK))
    assert fit.explained_variance == pytest.approx(float(expected), abs=1e-4)
    assert findings(model, [transcoder])["sae 0"].value == pytest.approx(
        fit.explained_variance, abs=1e-6
    )
