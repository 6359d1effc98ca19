"""OpenAI's SAEs of GPT-2 small: one `.pt` file each, whose folders say what it reads.

`.../gpt2-small/resid_post_mlp_v5_32k/autoencoders/6.pt`: ReLU on plain activations (versions
1 and 4), or the 32 largest on layer-normed ones (version 5) (Gao et al. 2024, "Scaling and
evaluating sparse autoencoders").
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.core.sites import Site
from microscope.engine.saes.activations import Identity, ReLU, TopK
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import LayerNorm, Unnormalised
from microscope.engine.saes.pickle_file import PickleFile, opened, words_in
from microscope.engine.saes.sae import Sae

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.activations import Activation

_CPU = torch.device("cpu")
_LOCATION = re.compile(
    "(mlp_post_act|resid_delta_attn|resid_delta_mlp|resid_post_attn|resid_post_mlp)(?:_v.*)?"
)
_HOOKS = {
    "mlp_post_act": "mlp.hook_post",
    "resid_delta_attn": "hook_attn_out",
    "resid_delta_mlp": "hook_mlp_out",
    "resid_post_attn": "hook_resid_mid",
    "resid_post_mlp": "hook_resid_post",
}
_ARCHITECTURES = {"ReLU": "standard", "TopK": "topk", "Identity": "identity"}
_TIED_DECODER = "decoder.linear.weight"


def recognises(path: Path) -> bool:
    """Whether a path is a `.pt` file with the names of these SAEs in it."""
    if path.suffix != ".pt" or not path.is_file():
        return False
    return {"pre_bias", "latent_bias", "encoder.weight"} <= words_in(path)


def outline(path: Path) -> SaeCard:
    """What the folders and the tensors' shapes say. Raises `SaeUnreadable`."""
    with opened(path, _CPU) as file:
        return _card(path, file)


def read(path: Path, device: torch.device) -> Sae:
    """The SAE in a file; decoder norms are folded in unless it is a top-k one.

    Raises:
        SaeUnreadable: the file is damaged, or its folders do not say what it reads.
    """
    with opened(path, device) as file:
        card = _card(path, file)
        is_normed = card.architecture == "topk"
        return Sae(
            card=card,
            w_enc=file.matrix("encoder.weight", card.n_features, card.d_in).T,
            b_enc=file.read("latent_bias", card.n_features),
            w_dec=_decoder(file, card),
            b_dec=file.read("pre_bias", card.d_in),
            activation=_activation(file, card),
            normalisation=LayerNorm() if is_normed else Unnormalised(),
            subtracts_b_dec=True,
        ).folded()


def _card(path: Path, file: PickleFile) -> SaeCard:
    n_features, d_in = file.shape("encoder.weight", 2)
    site = _site_of(path)
    return SaeCard(
        name=site,
        source=str(path),
        site=site,
        architecture=_architecture(file),
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
    )


def _site_of(path: Path) -> str:
    locations = [match[1] for part in path.parts if (match := _LOCATION.fullmatch(part))]
    if not locations or not re.fullmatch(r"\d{1,5}", path.stem):
        raise SaeUnreadable(
            f"{path} does not say what it reads: keep the file in its folders, as in "
            "gpt2-small/resid_post_mlp_v5_32k/autoencoders/6.pt."
        )
    return Site(int(path.stem), _HOOKS[locations[-1]]).name


def _architecture(file: PickleFile) -> str:
    name = file.text("activation") or "ReLU"  # the first version had no other and no name
    if name not in _ARCHITECTURES:
        raise SaeUnreadable(
            f"The SAE in {file.path} has the activation {name!r}; "
            f"{', '.join(_ARCHITECTURES)} can be opened."
        )
    return _ARCHITECTURES[name]


def _activation(file: PickleFile, card: SaeCard) -> Activation:
    if card.architecture == "identity":
        return Identity()
    return ReLU() if card.architecture == "standard" else _topk(file, card.n_features)


def _topk(file: PickleFile, n_features: int) -> TopK:
    state = file.inside("activation_state_dict")
    k = None if state is None else state.number("k")
    after = None if state is None else state.text("postact_fn")
    if k is None or not 1 <= k <= n_features or k != int(k):
        raise SaeUnreadable(
            f"The top-k SAE in {file.path} has the k {k}; it must be a whole number between 1 "
            f"and {n_features}."
        )
    if after not in (None, "ReLU"):
        raise SaeUnreadable(
            f"The top-k SAE in {file.path} ends in {after!r}; ReLU can be opened."
        )
    return TopK(int(k))


def _decoder(file: PickleFile, card: SaeCard) -> Tensor:
    """Decoder rows; a tied decoder is stored as the encoder, one row a feature."""
    if _TIED_DECODER in file:
        return file.matrix(_TIED_DECODER, card.n_features, card.d_in)
    return file.matrix("decoder.weight", card.d_in, card.n_features).T


OPENAI = SaeFormat("OpenAI", recognises, outline, read)
