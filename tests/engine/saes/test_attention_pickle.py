import json

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
from microscope.engine.saes.attention_pickle import outline, read, recognises
from microscope.engine.saes.loading import find_saes

NAME = "gpt2-small_L5_Hcat_z_lr1.20e-03_l11.80e+00_ds24576_bs4096_dc1.00e-06_v9"
SETTINGS = {
    "act_name": "blocks.5.attn.hook_z",
    "act_size": D_IN,
    "dict_size": N_FEATURES,
    "lr": 0.0012,
    "seed": 49,
}


def save(folder, w, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    named = {"W_enc": w["w_enc"], "W_dec": w["w_dec"], "b_enc": w["b_enc"], "b_dec": w["b_dec"]}
    torch.save(
        {name: torch.tensor(array) for name, array in named.items()}, folder / f"{NAME}.pt"
    )
    (folder / f"{NAME}_cfg.json").write_text(json.dumps(SETTINGS | changes))
    return folder / f"{NAME}.pt"


def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path):
    w, wide = random_weights(), doubles(random_weights())
    sae = read(save(tmp_path, w), CPU)
    f = relu((tokens() - wide["b_dec"]) @ wide["w_enc"] + wide["b_enc"])
    assert_matches(sae, tokens(), f, f @ wide["w_dec"] + wide["b_dec"], w["w_dec"])
    assert sae.card.site == "blocks.5.attn.hook_z"


def test_it_is_recognised_by_the_settings_beside_it(tmp_path):
    path = save(tmp_path / "repo", random_weights())
    assert find_saes(str(tmp_path)) == [str(path)]
    path.with_name(f"{NAME}_cfg.json").unlink()
    assert not recognises(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"act_name": "../secret"}, "'../secret'"),
        ({"act_name": None}, "act_name"),
        ({"act_size": -1}, "act_size"),
        ({"dict_size": "many"}, "dict_size"),
        ({"dict_size": D_IN, "act_size": N_FEATURES}, "W_enc"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_in_a_sentence(tmp_path, changes, words):
    path = save(tmp_path, random_weights(), **changes)
    with pytest.raises(SaeUnreadable) as refusal:
        read(path, CPU)
    assert words in str(refusal.value)


def test_settings_are_enough_for_an_outline(tmp_path):
    card = outline(save(tmp_path, random_weights()))
    assert (card.n_features, card.d_in, card.architecture) == (N_FEATURES, D_IN, "standard")
