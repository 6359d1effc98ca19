import gc

import numpy as np
import pytest
import torch
from reference import CPU, D_IN, assert_close, doubles, jumprelu, relu, rng
from safetensors.torch import load_file, save_file

import microscope.engine.saes.transcoder as transcoder_module
from microscope.core.errors import SaeUnreadable
from microscope.engine.saes import cross_layer, named_tensors
from microscope.engine.saes.cross_layer import outline, read, recognises
from microscope.engine.saes.loading import find_saes

N_LAYERS, N, D_OUT, N_TOKENS = 3, 12, 6, 9
SETTINGS = """\
model_kind: cross_layer_transcoder
feature_input_hook: hook_resid_mid
feature_output_hook: hook_mlp_out
"""


def weights_of(layer):
    g = rng(layer)
    plain = {
        "W_enc": g.normal(size=(N, D_IN)),
        "b_enc": 0.3 * g.normal(size=N),
        "b_dec": g.normal(size=D_OUT),
        "W_dec": g.normal(size=(N, N_LAYERS - layer, D_OUT)),
        "threshold": g.uniform(0.2, 1.5, N),
    }
    return {name: array.astype(np.float32) for name, array in plain.items()}


def save_layer(folder, layer, *, has_threshold=True, **changes):
    w = weights_of(layer) | changes
    encoder = ("W_enc", "b_enc", "b_dec", *(["threshold"] if has_threshold else []))
    for file, names in (("W_enc", encoder), ("W_dec", ["W_dec"])):
        tensors = {f"{name}_{layer}": torch.tensor(w[name]) for name in names}
        save_file(tensors, str(folder / f"{file}_{layer}.safetensors"))
    return folder / f"W_enc_{layer}.safetensors"


def save(folder, **changes):
    folder.mkdir(exist_ok=True)
    (folder / "config.yaml").write_text(SETTINGS)
    return [save_layer(folder, layer, **changes) for layer in range(N_LAYERS)]


def site(layer):
    return f"blocks.{layer}.hook_resid_mid"


def site_out(layer):
    return f"blocks.{layer}.hook_mlp_out"


def residuals():
    g = rng(40)
    found = {}
    for layer in range(N_LAYERS):
        found[site(layer)] = g.normal(size=(N_TOKENS, D_IN))
        found[site_out(layer)] = 3 * g.normal(size=(N_TOKENS, D_OUT))
    return {name: torch.tensor(array, dtype=torch.float32) for name, array in found.items()}


def activations(layer, x, *, has_threshold=True):
    w = doubles(weights_of(layer))
    p = x.double().numpy() @ w["W_enc"].T + w["b_enc"]
    return jumprelu(p, w["threshold"]) if has_threshold else relu(p)


def reconstruction(m, at):
    """`y^m = sum over l <= m of f^l W_dec^l[m - l], and b_dec^m`, in float64."""
    total = doubles(weights_of(m))["b_dec"]
    for layer in range(m + 1):
        rows = doubles(weights_of(layer))["W_dec"][:, m - layer]
        total = total + activations(layer, at[site(layer)]) @ rows
    return total


@pytest.mark.parametrize("layer", range(N_LAYERS))
@pytest.mark.parametrize("has_threshold", [True, False])
def test_activations_are_those_of_the_formula(tmp_path, layer, has_threshold):
    sae = read(save(tmp_path, has_threshold=has_threshold)[layer], CPU)
    x = residuals()[site(layer)]
    f = activations(layer, x, has_threshold=has_threshold)
    assert 0.1 < (f > 0).mean() < 0.9
    assert_close(sae.encode(x), f)
    chosen = torch.tensor([7, 2])
    assert_close(sae.encode_features(x, chosen), f[:, [7, 2]])
    assert not sae.card.is_folded


@pytest.mark.parametrize("m", range(N_LAYERS))
def test_a_blocks_output_is_explained_by_all_the_layers_up_to_it(tmp_path, m):
    at, sae = residuals(), read(save(tmp_path)[m], CPU)
    assert set(sae.sites) == {site_out(m), *map(site, range(m + 1))}
    y = at[site_out(m)].double().numpy()
    share = ((y - reconstruction(m, at)) ** 2).sum(1) / (y**2).sum(1)
    for tokens in (slice(0, 4), slice(4, 256), slice(0, 256)):
        found = sae.read(at, tokens, 5)
        np.testing.assert_allclose(found.error_share, share[tokens], rtol=1e-5)
        np.testing.assert_allclose(found.norm, np.linalg.norm(y, axis=1)[tokens], rtol=1e-5)
        f = activations(m, at[site(m)])[tokens]
        np.testing.assert_allclose(found.activations, -np.sort(-f)[:, :5], rtol=1e-4, atol=1e-6)


def test_mapped_bfloat16_rows_are_added_up_in_float32(tmp_path, monkeypatch):
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    at, paths = residuals(), save(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        save_file({n: t.bfloat16() for n, t in load_file(file).items()}, str(file))
    sae = read(paths[2], CPU)
    y = at[site_out(2)]
    assert {layer.rows.dtype for layer in sae.layers} == {torch.bfloat16}
    y_hat = sae.b_dec + sum(
        layer.encoder.encode(at[site(n)]) @ layer.rows[:, 2 - n].float()
        for n, layer in enumerate(sae.layers)
    )
    share = (y - y_hat).square().sum(1) / y.square().sum(1)
    found = sae.read(at, slice(0, 9), 5).error_share
    np.testing.assert_allclose(found, share.numpy(), rtol=1e-4)


def test_rows_that_are_damaged_are_refused_when_they_are_used(tmp_path, monkeypatch):
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    paths, rows = save(tmp_path), weights_of(0)["W_dec"]
    rows[:, 2] = np.nan
    save_layer(tmp_path, 0, W_dec=rows)
    low, high = read(paths[0], CPU), read(paths[2], CPU)
    assert np.isfinite(low.read(residuals(), slice(0, 9), 5).error_share).all()
    with pytest.raises(SaeUnreadable, match="not finite"):
        high.read(residuals(), slice(0, 9), 5)
    with pytest.raises(SaeUnreadable, match="not finite"):
        low.chosen_by_output(torch.tensor([1]))


def test_its_own_share_is_decoded_alone(tmp_path):
    sae, x = read(save(tmp_path)[1], CPU), residuals()[site(1)]
    w = doubles(weights_of(1))
    own = activations(1, x) @ w["W_dec"][:, 0] + w["b_dec"]
    assert_close(sae.decode(sae.encode(x), x), own)
    assert_close(
        sae.decode(sae.encode(x)[None].repeat(2, 1, 1), x[None].repeat(2, 1, 1))[1], own
    )


def test_features_are_added_up_in_pieces_too(tmp_path, monkeypatch):
    at, sae = residuals(), read(save(tmp_path)[2], CPU)
    whole = sae.read(at, slice(0, 9), 3)
    monkeypatch.setattr(transcoder_module, "_ROWS_AT_A_TIME", 3)
    pieces = read(save(tmp_path)[2], CPU).read(at, slice(0, 9), 3)
    np.testing.assert_allclose(pieces.error_share, whole.error_share, rtol=1e-5)


def test_a_feature_writes_to_its_blocks_output_and_all_later_ones(tmp_path):
    paths, indices = save(tmp_path), torch.tensor([4, 9])
    for layer, path in enumerate(paths):
        outputs = read(path, CPU).chosen_by_output(indices)
        assert list(outputs) == [site_out(m) for m in range(layer, N_LAYERS)]
        for m in range(layer, N_LAYERS):
            expected = weights_of(layer)["W_dec"][[4, 9], m - layer]
            assert torch.equal(outputs[site_out(m)].rows, torch.from_numpy(expected))


def test_open_layers_share_the_weights_of_those_below(tmp_path):
    paths = save(tmp_path)
    low, high = read(paths[0], CPU), read(paths[2], CPU)
    assert high.layers[0] is low.layers[0]
    assert high.w_enc is not low.w_enc
    del low, high
    gc.collect()
    assert not [key for key in cross_layer._open if str(tmp_path) in key[0]]


def test_a_layer_below_is_encoded_once_for_all_the_layers_above(tmp_path, monkeypatch):
    paths, at, encoded = save(tmp_path), residuals(), []
    saes = [read(path, CPU) for path in paths]
    encode = transcoder_module.Transcoder.encode

    def counted(self, x):
        encoded.append(self.card.site)
        return encode(self, x)

    monkeypatch.setattr(transcoder_module.Transcoder, "encode", counted)
    for sae in saes:
        sae.read(at, slice(0, 9), 3)
    assert sorted(encoded) == [site(0), site(1)]
    again = {name: tensor + 1 for name, tensor in at.items()}
    before = saes[2].read(at, slice(0, 9), 3)
    after = saes[2].read(again, slice(0, 9), 3)
    assert len(encoded) == 4
    assert (before.error_share != after.error_share).any()


def test_a_file_that_has_changed_is_read_again(tmp_path):
    path = save(tmp_path)[0]
    before = read(path, CPU)
    save_layer(tmp_path, 0, b_enc=np.full(N, 5, np.float32), has_threshold=False)
    after, x = read(path, CPU), residuals()[site(0)]
    assert (after.encode(x) > before.encode(x)).any()


def test_a_layer_is_found_by_its_encoder_with_its_decoder_beside_it(tmp_path):
    paths = save(tmp_path / "clt")
    assert find_saes(str(tmp_path)) == [str(path) for path in paths]
    card = outline(paths[1])
    assert (card.site, card.site_out) == (site(1), site_out(1))
    assert (card.n_features, card.d_in, card.d_out) == (N, D_IN, D_OUT)
    (tmp_path / "clt" / "W_dec_1.safetensors").unlink()
    assert not recognises(paths[1])


def test_a_missing_layer_below_is_refused_in_a_sentence(tmp_path):
    paths = save(tmp_path)
    paths[1].unlink()
    with pytest.raises(SaeUnreadable, match=r"W_enc_1\.safetensors is missing"):
        read(paths[2], CPU)
    assert read(paths[0], CPU).card.site == site(0)


def test_layers_of_different_transcoders_are_refused(tmp_path):
    paths = save(tmp_path)
    save_layer(tmp_path, 0, W_dec=weights_of(0)["W_dec"][:, :2].copy())
    with pytest.raises(SaeUnreadable, match=r"\[2, 2\] blocks"):
        read(paths[1], CPU)


def test_a_skip_matrix_is_refused(tmp_path):
    path = save(tmp_path)[0]
    tensors = {"W_enc_0": torch.zeros(N, D_IN), "W_skip": torch.zeros(D_IN, D_IN)}
    save_file(tensors, str(path))
    with pytest.raises(SaeUnreadable, match="skip matrix"):
        outline(path)


def test_another_kind_of_transcoder_is_refused(tmp_path):
    path = save(tmp_path)[0]
    kind = SETTINGS.replace("cross_layer_transcoder", "transcoder_set")
    (tmp_path / "config.yaml").write_text(kind)
    with pytest.raises(SaeUnreadable, match="'transcoder_set'"):
        outline(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"W_enc": np.zeros((D_IN, N), np.float32)}, "W_dec_0"),
        ({"W_dec": np.zeros((N, D_OUT), np.float32)}, "3 dimensions"),
        ({"W_dec": np.zeros((N, 3, D_OUT + 1), np.float32)}, "W_dec_0"),
        ({"b_dec": np.full(D_OUT, np.inf, np.float32)}, "not finite"),
        ({"threshold": np.zeros(N + 1, np.float32)}, "threshold_0"),
    ],
)
def test_tensors_that_cannot_be_used_are_refused_by_name(tmp_path, changes, words):
    path = save(tmp_path)[0]
    save_layer(tmp_path, 0, **changes)
    with pytest.raises(SaeUnreadable, match=words):
        read(path, CPU)
