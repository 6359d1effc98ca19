"""SAEs of several formats, opened in the model they fit, from where a user would point."""

import json

import numpy as np
import pytest
import torch
from reference import random_weights
from safetensors.torch import save_file
from tiny_models import D_MLP, D_MODEL, open_tiny_model
from tiny_saes import save_saelens

from microscope.core.errors import SaeMismatch, SaeUnreadable
from microscope.core.features import Clamp, FeatureId
from microscope.core.messages import OpenSaes, SaeOpened, SaeRefused
from microscope.engine.clamping import ClampSet
from microscope.engine.model_engine import ModelEngine
from microscope.engine.reading import trace
from microscope.engine.saes import named_tensors
from microscope.engine.saes.loading import find_saes, open_sae
from microscope.engine.saes.sae import Sae

N = 40
SITE = "blocks.1.hook_resid_post"


def tensors(weights, **names):
    return {
        name: torch.from_numpy(np.ascontiguousarray(weights[key.rstrip("T")].T))
        if key.endswith("T")
        else torch.from_numpy(weights[key])
        for name, key in names.items()
    }


LINEAR = {"encoder.weight": "w_encT", "encoder.bias": "b_enc"}


def gemma_scope(root, w):
    path = root / "gemma-scope-2b-pt-res/layer_1/width_16k/average_l0_9/params.npz"
    path.parent.mkdir(parents=True)
    np.savez(path, W_enc=w["w_enc"], W_dec=w["w_dec"], **{n: w[n] for n in ARRAYS})
    return path


ARRAYS = ("b_enc", "b_dec", "threshold")


def gemma_scope_2(root, w):
    folder = root / "resid_post/layer_1_width_16k_l0_small"
    folder.mkdir(parents=True)
    names = {name: name for name in ("w_enc", "w_dec", *ARRAYS)}
    save_file(tensors(w, **names), str(folder / "params.safetensors"))
    return folder


def sparsify(root, w, name="layers.1", **cfg):
    folder = root / name
    folder.mkdir(parents=True)
    stored = tensors(w, **LINEAR, W_dec="w_dec", b_dec="b_dec", W_skip="skipT")
    save_file(stored, str(folder / "sae.safetensors"))
    d_in, n = w["w_enc"].shape
    (folder / "cfg.json").write_text(json.dumps({"d_in": d_in, "num_latents": n, "k": 5} | cfg))
    return folder


def dictionary_learning(root, w):
    folder = root / "resid_post_layer_1/trainer_0"
    folder.mkdir(parents=True)
    torch.save(
        tensors(w, **LINEAR, **{"decoder.weight": "w_decT", "bias": "b_dec"}), folder / "ae.pt"
    )
    sizes = {"activation_dim": w["w_enc"].shape[0], "dict_size": w["w_enc"].shape[1]}
    trainer = {"dict_class": "AutoEncoder", "layer": 1} | sizes
    (folder / "config.json").write_text(json.dumps({"trainer": trainer}))
    return folder


def openai(root, w):
    path = root / "resid_post_mlp/autoencoders/1.pt"
    path.parent.mkdir(parents=True)
    names = {"encoder.weight": "w_encT", "decoder.weight": "w_decT", "latent_bias": "b_enc"}
    torch.save(tensors(w, **names, pre_bias="b_dec"), path)
    return path


def saelens(root, w):
    d_in, n = w["w_enc"].shape
    save_saelens(root / "a", d_in=d_in, n_features=n)
    return root / "a"


SAVERS = (gemma_scope, gemma_scope_2, sparsify, dictionary_learning, openai, saelens)


@pytest.fixture
def model(tmp_path_factory):
    return open_tiny_model("llama", tmp_path_factory)


@pytest.fixture
def engine(model):
    engine = ModelEngine()
    engine._model = model
    return engine


@pytest.mark.parametrize("save", SAVERS)
def test_every_format_opens_from_the_folder_above_and_reads_the_model(tmp_path, model, save):
    path = save(tmp_path, random_weights(D_MODEL, N))
    sae = open_sae(str(tmp_path), model, name="mine")
    assert (sae.card.name, sae.card.site, sae.card.source) == ("mine", SITE, str(path))
    residuals = trace(model, [1, 5, 9, 2], ClampSet(), sae.sites)
    found = sae.read(residuals, slice(None), 3)
    assert found.indices.shape == (4, 3)
    assert np.isfinite(found.error_share).all()
    assert (found.n_active > 0).all()


@pytest.mark.parametrize("save", SAVERS)
def test_matrices_that_stay_in_their_file_give_the_same_numbers(
    tmp_path, model, monkeypatch, save
):
    save(tmp_path, random_weights(D_MODEL, N))
    x = torch.randn(6, D_MODEL, generator=torch.Generator().manual_seed(0))
    read = open_sae(str(tmp_path), model)
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    mapped = open_sae(str(tmp_path), model)
    for f in (Sae.encode, Sae.error):
        torch.testing.assert_close(f(mapped, x), f(read, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("save", SAVERS)
def test_every_format_says_which_width_it_was_made_for(tmp_path, model, save):
    save(tmp_path, random_weights(D_MODEL * 2, N))
    with pytest.raises(SaeMismatch, match=rf"width {D_MODEL * 2}.* width {D_MODEL}"):
        open_sae(str(tmp_path), model)


def test_an_sae_of_the_mlp_may_have_the_width_of_the_mlp(tmp_path, model):
    w = random_weights(D_MLP, N)
    path = tmp_path / "mlp_post_act/autoencoders/1.pt"
    path.parent.mkdir(parents=True)
    openai(tmp_path / "x", w).rename(path)
    assert open_sae(str(path), model).card.site == "blocks.1.mlp.hook_post"


@pytest.mark.parametrize(
    ("name", "cfg"),
    [
        ("embed_tokens", {}),
        ("layers.1.mlp", {}),
        ("layers.1.self_attn", {}),
        ("layers.1.mlp", {"transcode": True}),
        ("layers.1.mlp", {"skip_connection": True}),
        ("layers.1", {"transcode": True, "skip_connection": True}),
    ],
)
def test_a_feature_read_at_any_module_can_be_held(tmp_path, model, name, cfg):
    sae = open_sae(str(sparsify(tmp_path, random_weights(D_MODEL, N), name, **cfg)), model)
    ids = [1, 5, 9, 2]
    plain = trace(model, ids, ClampSet(), sae.sites)
    read = sae.read(plain, slice(None), 3)
    assert np.isfinite(read.error_share).all()
    held = Clamp(FeatureId("mine", int(read.indices[2, 0])), 9.0, "add")
    clamps = ClampSet.of([held], {"mine": sae})
    steered = trace(model, ids, clamps, sae.sites)
    written = sae.card.site_out or sae.card.site
    moved = (steered[written] - plain[written])[2]
    row = sae.chosen(torch.tensor([held.feature.index])).rows[0]
    torch.testing.assert_close(moved, 9 * row, rtol=1e-4, atol=1e-4)


def test_saes_of_many_formats_below_one_folder_are_all_found(tmp_path):
    paths = [save(tmp_path / save.__name__, random_weights()) for save in SAVERS]
    assert sorted(find_saes(str(tmp_path))) == sorted(map(str, paths))


def test_a_file_in_a_folder_of_files_is_itself_and_not_a_neighbour(tmp_path, model):
    path = openai(tmp_path, random_weights(D_MODEL, N))
    other = path.with_name("notes.pt")
    torch.save({"other": torch.ones(2)}, other)
    assert find_saes(str(path)) == [str(path)]
    assert find_saes(str(other)) == []
    with pytest.raises(SaeUnreadable, match="holds no SAE"):
        open_sae(str(other), model)


def test_a_path_may_be_relative(tmp_path, model, monkeypatch):
    path = sparsify(tmp_path, random_weights(D_MODEL, N))
    monkeypatch.chdir(path)
    assert open_sae(".", model).card.site == SITE
    assert open_sae("../layers.1/cfg.json", model).card.source == str(path)


def test_the_engine_says_why_a_folder_or_a_file_opens_nothing(tmp_path, engine):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old.pt").write_bytes(b"\x80\x02K\x00.")
    sparsify(tmp_path / "good", random_weights(D_MODEL, N))
    sources = tuple(str(tmp_path / name) for name in ("empty", "old.pt", "good"))
    events = list(engine.handle(OpenSaes(run_id=1, sources=sources)))
    refused = {e.source: e.summary for e in events if isinstance(e, SaeRefused)}
    assert "holds no SAE" in refused[sources[0]]
    assert "torch.save" in refused[sources[1]]
    assert len([e for e in events if isinstance(e, SaeOpened)]) == 1


def test_the_strongest_features_of_a_signed_sae_are_the_largest_by_size(tmp_path, model):
    w = random_weights(D_MODEL, N)
    sparsify(tmp_path, w, signed=True)
    sae = open_sae(str(tmp_path), model)
    x = torch.randn(6, D_MODEL, generator=torch.Generator().manual_seed(0))
    found = sae.strongest(x, 3)
    every = sae.encode(x).numpy()
    assert (every < 0).any()
    assert (found.n_active == 5).all()
    for row, indices, values in zip(every, found.indices, found.activations, strict=True):
        assert indices.tolist() == np.argsort(-np.abs(row), kind="stable")[:3].tolist()
        assert values.tolist() == row[indices].tolist()
