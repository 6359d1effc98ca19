"""Qwen-Scope: one `layer{L}.sae.pt` a layer; the k of its top-k is in the folder's name.

`Qwen/SAE-Res-Qwen3-1.7B-Base-W32K-L0_50/layer7.sae.pt`: the encoder's rows and the decoder's
columns are features, and nothing is subtracted from what is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.core.sites import resid_post
from microscope.engine.saes.activations import TopK
from microscope.engine.saes.file_names import number_in_names
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.pickle_file import opened, words_in
from microscope.engine.saes.sae import Sae

if TYPE_CHECKING:
    from pathlib import Path

    from microscope.engine.saes.named_tensors import NamedTensors

_NAME = re.compile(r"layer(\d{1,5})\.sae\.pt")
_K = re.compile(r"L0_(\d{1,9})(?!\d)")


def recognises(path: Path) -> bool:
    """Whether a path is a file of tensors with Qwen-Scope's name."""
    if not _NAME.fullmatch(path.name) or not path.is_file():
        return False
    return {"W_enc", "W_dec"} <= words_in(path)


def outline(path: Path) -> SaeCard:
    """What the names and the tensors' shapes say. Raises `SaeUnreadable`."""
    with opened(path, torch.device("cpu")) as tensors:
        card = _card(path, tensors)
    _k(path, card)
    return card


def read(path: Path, device: torch.device) -> Sae:
    """The SAE in a file; top-k keeps its decoder rows as they are. Raises `SaeUnreadable`."""
    with opened(path, device) as tensors:
        card = _card(path, tensors)
        return Sae(
            card=card,
            w_enc=tensors.matrix("W_enc", card.n_features, card.d_in).T,
            b_enc=tensors.read("b_enc", card.n_features),
            w_dec=tensors.matrix("W_dec", card.d_in, card.n_features).T,
            b_dec=tensors.read("b_dec", card.d_in),
            activation=TopK(_k(path, card)),
            normalisation=Unnormalised(),
            subtracts_b_dec=False,
        ).folded()


def _card(path: Path, tensors: NamedTensors) -> SaeCard:
    site = resid_post(number_in_names(path, _NAME, "which layer it reads (layer7.sae.pt)"))
    n_features, d_in = tensors.shape("W_enc", 2)
    return SaeCard(
        name=site,
        source=str(path),
        site=site,
        architecture="topk",
        n_features=n_features,
        d_in=d_in,
        is_folded=False,
    )


def _k(path: Path, card: SaeCard) -> int:
    k = number_in_names(path, _K, "how many features are on at a token (such as L0_50)")
    if not 1 <= k <= card.n_features:
        raise SaeUnreadable(
            f"{path} is in a folder that says L0_{k}, but has {card.n_features} features."
        )
    return k


QWEN_SCOPE = SaeFormat("Qwen-Scope", recognises, outline, read)
