"""Transcoders from published files in an open model: found, fitted, read and clamped."""

import pytest
import torch
from safetensors.torch import save_file
from tiny_models import D_MODEL, N_LAYERS, open_tiny_model

from microscope.core.errors import SaeMismatch
from microscope.core.features import Clamp, FeatureId
from microscope.core.messages import FeaturesRead, Read
from microscope.core.prompts import Prompt, Sampler
from microscope.engine.clamping import ClampSet
from microscope.engine.generation import write
from microscope.engine.reading import read
from microscope.engine.saes.loading import find_saes, open_sae

N = 24


@pytest.fixture(scope="module", params=["gpt2", "llama", "gemma2"])
def model(request, tmp_path_factory):
    return open_tiny_model(request.param, tmp_path_factory)


def save_settings(folder, kind):
    (folder / "config.yaml").write_text(
        f"model_kind: {kind}\n"
        "feature_input_hook: mlp.hook_in\n"
        "feature_output_hook: hook_mlp_out\n"
    )


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def save_per_layer(folder, d_in=D_MODEL, d_out=D_MODEL, n_layers=N_LAYERS):
    save_settings(folder, "transcoder_set")
    for layer in range(n_layers):
        tensors = {
            "W_enc": random(N, d_in, seed=layer),
            "b_enc": random(N, seed=layer),
            "W_dec": random(N, d_out, seed=layer + 9),
            "b_dec": random(d_out, seed=layer),
            "W_skip": random(d_out, d_in, seed=layer),
        }
        save_file(tensors, str(folder / f"layer_{layer}.safetensors"))


def save_cross_layer(folder, n_layers=N_LAYERS):
    save_settings(folder, "cross_layer_transcoder")
    for layer in range(n_layers):
        encoder = {
            f"W_enc_{layer}": random(N, D_MODEL, seed=layer),
            f"b_enc_{layer}": random(N, seed=layer),
            f"b_dec_{layer}": random(D_MODEL, seed=layer),
        }
        rows = random(N, n_layers - layer, D_MODEL, seed=layer + 9)
        save_file(encoder, str(folder / f"W_enc_{layer}.safetensors"))
        save_file({f"W_dec_{layer}": rows}, str(folder / f"W_dec_{layer}.safetensors"))


def opened(folder, model):
    saes = [open_sae(source, model) for source in find_saes(str(folder))]
    return {sae.card.name: sae for sae in saes}


@pytest.mark.parametrize("save", [save_per_layer, save_cross_layer])
def test_every_layer_of_a_repository_is_opened_and_read(model, tmp_path, save):
    save(tmp_path)
    saes = opened(tmp_path, model)
    assert list(saes) == [f"blocks.{n}.mlp.hook_in" for n in range(N_LAYERS)]
    request = Read(run_id=1, prompt=Prompt("The lamp on the harbour"), max_features=4)
    found = [event for event in read(model, saes, request) if isinstance(event, FeaturesRead)]
    assert [event.sae for event in found] == list(saes)
    for event in found:
        assert (event.n_active > 0).all()
        assert (event.error_share > 0).all()


@pytest.mark.parametrize("save", [save_per_layer, save_cross_layer])
def test_a_text_is_written_with_a_feature_held(model, tmp_path, save):
    save(tmp_path)
    saes = opened(tmp_path, model)
    ids = model.tokenise(Prompt("The lamp on"))
    plain = written(model, ids, ClampSet())
    name = next(iter(saes))
    held = written(model, ids, ClampSet.of([Clamp(FeatureId(name, 3), 40.0)], saes))
    muted = ClampSet.of([Clamp(FeatureId(name, 3), 40.0, is_muted=True)], saes)
    assert written(model, ids, muted) == plain
    assert [p for _, p in held] != [p for _, p in plain]


def written(model, ids, clamp_set):
    steps = write(model, ids, clamp_set, Sampler(temperature=0), 0, 5)
    return [(step.id, step.probability) for step in steps]


@pytest.mark.parametrize(
    ("widths", "words"),
    [
        ({"d_in": D_MODEL + 1}, ["mlp.hook_in", str(D_MODEL + 1), str(D_MODEL)]),
        ({"d_out": D_MODEL - 1}, ["hook_mlp_out", str(D_MODEL - 1), str(D_MODEL)]),
    ],
)
def test_a_width_that_does_not_fit_at_either_end_is_refused(model, tmp_path, widths, words):
    save_per_layer(tmp_path, **widths)
    with pytest.raises(SaeMismatch) as refusal:
        open_sae(str(tmp_path / "layer_1.safetensors"), model)
    assert all(word in str(refusal.value) for word in words)


def test_a_cross_layer_transcoder_of_a_deeper_model_is_refused(model, tmp_path):
    save_cross_layer(tmp_path, N_LAYERS + 2)
    with pytest.raises(SaeMismatch, match=f"block {N_LAYERS}"):
        open_sae(str(tmp_path / "W_enc_1.safetensors"), model)
