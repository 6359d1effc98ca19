import numpy as np
import pytest
import torch
from reference import (
    CPU,
    D_IN,
    N_FEATURES,
    assert_matches,
    doubles,
    jumprelu,
    random_weights,
    rng,
    tokens,
)

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.gemma_scope import outline, read, recognises
from microscope.engine.saes.loading import find_saes

PATH = "gemma-scope-2b-pt-res/layer_20/width_16k/average_l0_71/params.npz"
SNAPSHOT = PATH.replace("/", "/snapshots/0a1b/", 1)
NAMES = {name: name.replace("w_", "W_") for name in ("w_enc", "w_dec", "b_enc", "b_dec")}
NAMES["threshold"] = "threshold"


def save(path, weights, save_arrays=np.savez, names=NAMES):
    path.parent.mkdir(parents=True)
    save_arrays(path, **{name: weights[key] for key, name in names.items()})
    return path


def formulas(x, w):
    """JumpReLU; the decoder's bias is added and not subtracted."""
    x, w = x.astype(np.float64), doubles(w)
    f = jumprelu(x @ w["w_enc"] + w["b_enc"], w["threshold"])
    return f, f @ w["w_dec"] + w["b_dec"]


@pytest.mark.parametrize("save_arrays", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", [NAMES, {name: name for name in NAMES}], ids=["W_", "w_"])
def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path, save_arrays, names):
    w = random_weights()
    sae = read(save(tmp_path / PATH, w, save_arrays, names), CPU)
    assert_matches(sae, tokens(), *formulas(tokens(), w), w["w_dec"])


def test_arrays_of_another_order_and_dtype_are_read_as_they_are_meant(tmp_path):
    w = random_weights()
    odd = {name: np.asfortranarray(array.astype(">f8")) for name, array in w.items()}
    sae = read(save(tmp_path / PATH, odd), CPU)
    assert_matches(sae, tokens(), *formulas(tokens(), w), w["w_dec"])


def test_an_embedding_sae_sees_rows_before_the_model_scales_them(tmp_path):
    w = random_weights()
    path = save(
        tmp_path / "gemma-scope-2b-pt-res/embedding/width_4k/average_l0_6/params.npz", w
    )
    sae = read(path, CPU)
    x = tokens() * np.float32(np.sqrt(D_IN))
    f, row_hat = formulas(x / np.sqrt(D_IN), w)
    assert_matches(sae, x, f / np.sqrt(D_IN), row_hat * np.sqrt(D_IN), w["w_dec"] * D_IN)
    assert sae.card.site == "hook_embed"


def test_a_transcoder_reads_the_normalised_stream_and_writes_the_mlp_output(tmp_path):
    w = random_weights()
    path = save(tmp_path / PATH.replace("res", "transcoders"), w)
    sae = read(path, CPU)
    assert (sae.card.site, sae.card.site_out) == (
        "blocks.20.ln2.hook_normalized",
        "blocks.20.hook_mlp_out",
    )
    assert_matches(sae, tokens(), *formulas(tokens(), w), w["w_dec"])


@pytest.mark.parametrize(
    ("path", "site"),
    [
        (PATH, "blocks.20.hook_resid_post"),
        (PATH.replace("2b-pt", "9b-it"), "blocks.20.hook_resid_post"),
        (PATH.replace("res", "mlp"), "blocks.20.hook_mlp_out"),
        (PATH.replace("res", "att"), "blocks.20.attn.hook_z"),
        (
            f"models--google--{PATH.replace('/', '/snapshots/0a1b/', 1)}",
            "blocks.20.hook_resid_post",
        ),
        ("layer_3/width_1m/average_l0_9/params.npz", "blocks.3.hook_resid_post"),
    ],
)
def test_the_folders_say_which_site_is_read(tmp_path, path, site):
    card = outline(save(tmp_path / path, random_weights()))
    assert (card.site, card.d_in, card.n_features) == (site, D_IN, N_FEATURES)
    assert bool(card.remark) == path.startswith("layer_3")  # a release was named, or assumed


def test_it_is_found_from_the_file_its_folder_and_the_repository(tmp_path):
    path = save(tmp_path / PATH, random_weights())
    for source in (path, path.parent, tmp_path):
        assert find_saes(str(source)) == [str(path)]


def test_an_archive_of_other_arrays_is_not_taken_for_an_sae(tmp_path):
    np.savez(tmp_path / "params.npz", a=np.zeros(3), b=np.zeros(3))
    assert not recognises(tmp_path / "params.npz")
    assert find_saes(str(tmp_path)) == []


def test_a_file_without_its_folders_is_refused(tmp_path):
    with pytest.raises(SaeUnreadable, match="which layer"):
        outline(save(tmp_path / "downloads" / "params.npz", random_weights()))


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("w_enc", rng().normal(size=(N_FEATURES, D_IN)), r"'b_enc' .* \[20\]; .* \[8\]"),
        ("w_dec", rng().normal(size=(D_IN, N_FEATURES)), r"'W_dec' .* \[8, 20\]; .* \[20, 8\]"),
        ("w_enc", np.zeros(3), "'W_enc' .* 2 dimensions"),
        ("w_enc", np.zeros((0, N_FEATURES)), "'W_enc' .* above 0"),
        ("b_enc", np.zeros(N_FEATURES, np.int64), "'b_enc' .* int64"),
        ("b_dec", np.array(["a"] * D_IN), "'b_dec' .* <U1"),
        ("w_dec", np.full((N_FEATURES, D_IN), np.nan), "'W_dec' .* not finite"),
        ("threshold", np.array([[None]] * N_FEATURES), "'threshold' .* no plain numbers"),
    ],
)
def test_arrays_that_cannot_be_used_are_refused_by_name(tmp_path, name, array, words):
    path = save(tmp_path / PATH, random_weights() | {name: array})
    with pytest.raises(SaeUnreadable, match=words):
        read(path, CPU)


def test_a_missing_array_is_refused_by_name(tmp_path):
    names = {key: name for key, name in NAMES.items() if key != "threshold"}
    with pytest.raises(SaeUnreadable, match="no tensor 'threshold'"):
        read(save(tmp_path / PATH, random_weights(), names=names), CPU)


def test_decoder_rows_have_length_one(tmp_path):
    sae = read(save(tmp_path / PATH, random_weights()), CPU)
    assert sae.card.is_folded
    rows = sae.chosen(torch.arange(N_FEATURES)).rows
    torch.testing.assert_close(rows.norm(dim=1), torch.ones(N_FEATURES))
