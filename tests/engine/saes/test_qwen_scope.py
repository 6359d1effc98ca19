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
    tokens,
    top_k,
)

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.loading import find_saes
from microscope.engine.saes.qwen_scope import outline, read

REPOSITORY = "SAE-Res-Qwen3-1.7B-Base-W32K-L0_5"


def save(path, w):
    path.parent.mkdir(parents=True, exist_ok=True)
    named = {"W_enc": w["w_enc"].T, "W_dec": w["w_dec"].T, "b_enc": w["b_enc"]}
    named["b_dec"] = w["b_dec"]
    torch.save({n: torch.tensor(np.ascontiguousarray(a)) for n, a in named.items()}, path)
    return path


@pytest.mark.parametrize(
    "folder",
    [REPOSITORY, f"models--Qwen--{REPOSITORY}/snapshots/0a1b2c"],
    ids=["clone", "cache"],
)
def test_activations_and_reconstruction_are_those_of_the_formulas(tmp_path, folder):
    w, wide = random_weights(), doubles(random_weights())
    sae = read(save(tmp_path / folder / "layer7.sae.pt", w), CPU)
    f = top_k(tokens().astype(np.float64) @ wide["w_enc"] + wide["b_enc"], 5)
    assert_matches(sae, tokens(), f, f @ wide["w_dec"] + wide["b_dec"], w["w_dec"])
    assert sae.card.site == "blocks.7.hook_resid_post"
    assert not sae.card.is_folded


def test_a_repository_holds_a_layer_in_each_file(tmp_path):
    names = [f"layer{n}.sae.pt" for n in (0, 2, 10)]
    paths = [save(tmp_path / REPOSITORY / name, random_weights()) for name in names]
    assert find_saes(str(tmp_path)) == [str(path) for path in paths]
    assert outline(paths[2]).site == "blocks.10.hook_resid_post"


def test_the_k_is_found_behind_a_link(tmp_path):
    path = save(tmp_path / REPOSITORY / "layer7.sae.pt", random_weights())
    link = tmp_path / "layer9.sae.pt"
    link.symlink_to(path)
    assert outline(link).site == "blocks.9.hook_resid_post"
    assert read(link, CPU).activation.k == 5


def test_a_folder_that_does_not_name_the_k_is_refused(tmp_path):
    with pytest.raises(SaeUnreadable, match="L0_50"):
        outline(save(tmp_path / "mine" / "layer7.sae.pt", random_weights()))


@pytest.mark.parametrize("k", [0, N_FEATURES + 1])
def test_a_k_that_the_sae_cannot_have_is_refused(tmp_path, k):
    path = save(tmp_path / f"SAE-L0_{k}" / "layer7.sae.pt", random_weights())
    with pytest.raises(SaeUnreadable, match=f"L0_{k}, but has {N_FEATURES} features"):
        read(path, CPU)


def test_swapped_matrices_are_refused_by_name(tmp_path):
    w = random_weights()
    w["w_dec"] = w["w_dec"].T
    with pytest.raises(SaeUnreadable, match="W_dec") as refusal:
        read(save(tmp_path / REPOSITORY / "layer7.sae.pt", w), CPU)
    assert str([N_FEATURES, D_IN]) in str(refusal.value)
