import numpy as np
import pytest
import torch
from reference import CPU, assert_close, doubles, jumprelu, rng
from safetensors.torch import save_file

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.gemma_scope_2_clt import outline, read
from microscope.engine.saes.loading import find_saes

N_LAYERS, N, D, N_TOKENS = 3, 12, 8, 9


def weights_of(layer):
    g = rng(layer)
    plain = {
        "w_enc": g.normal(size=(D, N)),
        "b_enc": 0.3 * g.normal(size=N),
        "w_dec": g.normal(size=(N, N_LAYERS, D)),
        "b_dec": g.normal(size=D),
        "threshold": g.uniform(0.2, 1.5, N),
        "affine_skip_connection": 0.5 * g.normal(size=(D, D)),
    }
    return {name: array.astype(np.float32) for name, array in plain.items()}


def save(root, *, is_affine=True, **changes):
    folder = root / "gemma-scope-2-270m-pt/clt/width_262k_l0_medium_affine"
    folder.mkdir(parents=True)
    for layer in range(N_LAYERS):
        tensors = {k: torch.from_numpy(v) for k, v in weights_of(layer).items()} | changes
        if not is_affine:
            del tensors["affine_skip_connection"]
        save_file(tensors, str(folder / f"params_layer_{layer}.safetensors"))
    return [folder / f"params_layer_{layer}.safetensors" for layer in range(N_LAYERS)]


def site(layer):
    return f"blocks.{layer}.mlp.hook_in"


def site_out(layer):
    return f"blocks.{layer}.hook_mlp_out"


def residuals():
    g = rng(40)
    names = [name(layer) for layer in range(N_LAYERS) for name in (site, site_out)]
    return {
        name: torch.tensor(2 * g.normal(size=(N_TOKENS, D)), dtype=torch.float32)
        for name in names
    }


def activations(layer, at):
    w = doubles(weights_of(layer))
    return jumprelu(at[site(layer)].double().numpy() @ w["w_enc"] + w["b_enc"], w["threshold"])


def reconstruction(m, at, is_affine):
    """All layers up to m write with their rows for block m; bias and skip are those of m."""
    own = doubles(weights_of(m))
    total = own["b_dec"] + np.zeros((N_TOKENS, D))
    for layer in range(m + 1):
        total = total + activations(layer, at) @ doubles(weights_of(layer))["w_dec"][:, m]
    if is_affine:
        total = total + at[site(m)].double().numpy() @ own["affine_skip_connection"]
    return total


@pytest.mark.parametrize("m", range(N_LAYERS))
@pytest.mark.parametrize("is_affine", [False, True])
def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path, m, is_affine):
    at, sae = residuals(), read(save(tmp_path, is_affine=is_affine)[m], CPU)
    f = activations(m, at)
    assert 0.1 < (f > 0).mean() < 0.9
    assert_close(sae.encode(at[site(m)]), f)
    y = at[site_out(m)].double().numpy()
    share = ((y - reconstruction(m, at, is_affine)) ** 2).sum(1) / (y**2).sum(1)
    np.testing.assert_allclose(sae.read(at, slice(None), 5).error_share, share, rtol=1e-5)


def test_a_feature_writes_into_its_own_block_and_all_above(tmp_path):
    sae = read(save(tmp_path)[1], CPU)
    written = sae.chosen_by_output(torch.tensor([4, 7]))
    assert list(written) == [site_out(1), site_out(2)]
    for block, chosen in enumerate(written.values(), start=1):
        assert_close(chosen.rows, doubles(weights_of(1))["w_dec"][[4, 7], block])


def test_each_layer_is_found_and_names_its_sites(tmp_path):
    paths = save(tmp_path)
    assert find_saes(str(tmp_path)) == list(map(str, paths))
    card = outline(paths[1])
    assert (card.site, card.site_out) == (site(1), site_out(1))
    assert (card.d_in, card.n_features) == (D, N)


def test_a_layer_without_those_below_it_is_refused(tmp_path):
    paths = save(tmp_path)
    paths[1].unlink()
    read(paths[0], CPU)
    with pytest.raises(SaeUnreadable, match=r"params_layer_1\.safetensors is missing"):
        read(paths[2], CPU)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"w_dec": torch.ones(N, 1, D)}, "cannot be that of block 1"),
        ({"w_dec": torch.ones(N_LAYERS, N, D)}, "shape"),
        ({"w_dec": torch.ones(N, D)}, "3 dimensions"),
        ({"w_enc": torch.ones(N, D)}, "shape"),
    ],
)
def test_swapped_and_foreign_shapes_are_refused(tmp_path, changes, words):
    paths = save(tmp_path, **changes)
    with pytest.raises(SaeUnreadable, match=words):
        read(paths[1], CPU)
