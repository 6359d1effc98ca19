"""SAEs of GPT-2 small's attention heads by ckkissane: `NAME.pt` beside `NAME_cfg.json`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.core.sites import Site
from microscope.engine.saes import archive
from microscope.engine.saes.activations import ReLU
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.json_file import read_object
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.pickle_file import opened, words_in
from microscope.engine.saes.sae import Sae

if TYPE_CHECKING:
    from pathlib import Path

    import torch

Size = Annotated[int, msgspec.Meta(ge=1, le=1 << 31)]


class _Settings(msgspec.Struct, frozen=True):
    act_name: str
    act_size: Size
    dict_size: Size


def recognises(path: Path) -> bool:
    """Whether a path is a file of tensors with its settings beside it."""
    is_candidate = path.suffix in archive.SUFFIXES and path.is_file()
    return is_candidate and _beside(path).is_file() and {"W_enc", "b_enc"} <= words_in(path)


def outline(path: Path) -> SaeCard:
    """What the settings say, without the weights. Raises `SaeUnreadable`."""
    try:
        settings = msgspec.convert(read_object(_beside(path)), _Settings)
        site = Site.parse(settings.act_name).name
    except (msgspec.ValidationError, ValueError) as error:
        reason = str(error).rstrip(".")
        raise SaeUnreadable(
            f"{_beside(path)} is not the settings of an SAE: {reason}."
        ) from error
    return SaeCard(
        name=site,
        source=str(path),
        site=site,
        architecture="standard",
        n_features=settings.dict_size,
        d_in=settings.act_size,
        is_folded=False,
    )


def read(path: Path, device: torch.device) -> Sae:
    """The SAE in a file, decoder norms folded in. Raises `SaeUnreadable`."""
    card = outline(path)
    with opened(path, device) as tensors:
        return Sae(
            card=card,
            w_enc=tensors.matrix("W_enc", card.d_in, card.n_features),
            b_enc=tensors.read("b_enc", card.n_features),
            w_dec=tensors.matrix("W_dec", card.n_features, card.d_in),
            b_dec=tensors.read("b_dec", card.d_in),
            activation=ReLU(),
            normalisation=Unnormalised(),
            subtracts_b_dec=True,
        ).folded()


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}_cfg.json")


ATTENTION_PICKLE = SaeFormat("Attention SAEs (ckkissane)", recognises, outline, read)
