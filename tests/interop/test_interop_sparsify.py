"""SAEs and transcoders of EleutherAI's sparsify: its own classes against ours."""

import pytest
import torch
from peers import assert_same, assert_same_features, decoder_rows, numbers, peer, residuals

from microscope.engine.saes.sparsify import SPARSIFY

sparsify = peer("sparsify")

pytestmark = [pytest.mark.interop, pytest.mark.filterwarnings("ignore")]

D, N, K = 16, 40, 8
CPU = torch.device("cpu")


def saved(folder, name, **settings):
    """A folder that their code has written, with random weights in it."""
    config = sparsify.SparseCoderConfig(num_latents=N, k=K, **settings)
    coder = sparsify.SparseCoder(D, config)
    with torch.no_grad():
        coder.encoder.weight.copy_(numbers(N, D, scale=0.5))
        coder.encoder.bias.copy_(numbers(N, scale=0.3))
        coder.W_dec.copy_(decoder_rows(N, D))
        coder.b_dec.copy_(numbers(D, scale=0.5))
        if coder.W_skip is not None:
            coder.W_skip.copy_(numbers(D, D, seed=3, scale=0.4))
    coder.save_to_disk(folder / name)
    return folder / name


@pytest.mark.parametrize("activation", ["topk", "groupmax"])
@pytest.mark.parametrize("skip_connection", [False, True], ids=["plain", "skip"])
@pytest.mark.parametrize("transcode", [False, True], ids=["sae", "transcoder"])
@torch.no_grad()
def test_every_kind_agrees(tmp_path, transcode, skip_connection, activation):
    folder = saved(
        tmp_path,
        "layers.3.mlp",
        transcode=transcode,
        skip_connection=skip_connection,
        activation=activation,
    )
    x = residuals(D)
    ours, theirs = SPARSIFY.read(folder, CPU), sparsify.Sae.load_from_disk(folder)
    found = theirs.encode(x)
    activations = torch.zeros(len(x), N).scatter_(-1, found.top_indices, found.top_acts)
    assert_same_features(ours.encode(x), activations)
    assert_same(ours.decode(ours.encode(x), x), theirs(x, x).sae_out)


def test_the_site_is_that_of_the_folder_they_write(tmp_path):
    sae = SPARSIFY.outline(saved(tmp_path, "layers.3"))
    transcoder = SPARSIFY.outline(saved(tmp_path, "layers.4.mlp", transcode=True))
    assert (sae.site, sae.site_out) == ("blocks.3.hook_resid_post", "")
    assert transcoder.site == "blocks.4.mlp.hook_in"
    assert transcoder.site_out == "blocks.4.mlp.hook_out"
