import numpy as np
import pytest
import torch
from reference import (
    CPU,
    D_IN,
    N_FEATURES,
    assert_matches,
    doubles,
    random_weights,
    relu,
    tokens,
)

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.goodfire import GOODFIRE
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.qresearch import QRESEARCH

FILES = [
    (GOODFIRE, "encoder_linear", "decoder_linear", "Llama-3.1-8B-Instruct-SAE-l19.pth", 19),
    (GOODFIRE, "encoder_linear", "decoder_linear", "Llama-3.3-70B-Instruct-SAE-l50.pt", 50),
    (QRESEARCH, "encoder", "decoder", "DeepSeek-R1-Distill-Llama-8B-SAE-l19.pt", 19),
]
EVERY_FILE = pytest.mark.parametrize(("known", "encoder", "decoder", "name", "layer"), FILES)


def save(path, w, encoder, decoder, **others):
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {
        f"{encoder}.weight": w["w_enc"].T,
        f"{encoder}.bias": w["b_enc"],
        f"{decoder}.weight": w["w_dec"].T,
        f"{decoder}.bias": w["b_dec"],
    }
    torch.save(
        {n: torch.tensor(np.ascontiguousarray(a)) for n, a in named.items()} | others, path
    )
    return path


@EVERY_FILE
def test_activations_and_reconstruction_are_those_of_the_formulas(
    tmp_path, known, encoder, decoder, name, layer
):
    w, wide = random_weights(), doubles(random_weights())
    sae = known.read(save(tmp_path / name, w, encoder, decoder), CPU)
    f = relu(tokens().astype(np.float64) @ wide["w_enc"] + wide["b_enc"])
    assert_matches(sae, tokens(), f, f @ wide["w_dec"] + wide["b_dec"], w["w_dec"])
    assert sae.card.site == f"blocks.{layer}.hook_resid_post"
    assert (sae.card.d_in, sae.card.n_features) == (D_IN, N_FEATURES)


@EVERY_FILE
def test_each_is_found_as_what_it_is(tmp_path, known, encoder, decoder, name, layer):
    path = save(tmp_path / name, random_weights(), encoder, decoder)
    assert [k.name for k in (GOODFIRE, QRESEARCH) if k.recognises(path)] == [known.name]
    assert find_saes(str(tmp_path)) == [str(path)]
    assert find_saes(str(path)) == [str(path)]
    assert known.outline(path).site == f"blocks.{layer}.hook_resid_post"


def test_the_layer_may_stand_in_a_folders_name(tmp_path):
    path = tmp_path / "models--x--DeepSeek-R1-Distill-Llama-8B-SAE-l19" / "snapshots" / "sae.pt"
    save(path, random_weights(), "encoder", "decoder")
    assert QRESEARCH.outline(path).site == "blocks.19.hook_resid_post"


def test_a_file_that_does_not_name_its_layer_is_refused(tmp_path):
    path = save(tmp_path / "sae.pt", random_weights(), "encoder_linear", "decoder_linear")
    with pytest.raises(SaeUnreadable, match=r"which layer.*l19"):
        GOODFIRE.outline(path)


@pytest.mark.parametrize("other", ["pre_bias", "b_dec", "latent_bias", "bias"])
def test_two_layers_with_the_tensors_of_other_formats_are_not_taken_for_these(tmp_path, other):
    path = tmp_path / "sae-l19.pt"
    save(path, random_weights(), "encoder", "decoder", **{other: torch.zeros(D_IN)})
    assert not QRESEARCH.recognises(path)


@EVERY_FILE
def test_swapped_matrices_are_refused_by_name(tmp_path, known, encoder, decoder, name, layer):
    w = random_weights()
    w["w_dec"] = w["w_dec"].T
    with pytest.raises(SaeUnreadable, match=rf"{decoder}\.weight.*shape"):
        known.read(save(tmp_path / name, w, encoder, decoder), CPU)


def test_a_value_that_is_no_number_is_refused_by_name(tmp_path):
    w = random_weights()
    w["b_enc"][3] = np.nan
    path = save(tmp_path / "a-l3.pt", w, "encoder", "decoder")
    with pytest.raises(SaeUnreadable, match=r"encoder\.bias.*finite"):
        QRESEARCH.read(path, CPU)
