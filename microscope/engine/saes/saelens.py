"""SAEs and transcoders saved by SAELens: a folder with `cfg.json` and its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from microscope.core.cards import SaeCard
from microscope.core.errors import SaeUnreadable
from microscope.engine.saes.activations import AbsTopK, Gated, JumpReLU, ReLU, TopK
from microscope.engine.saes.formats import SaeFormat
from microscope.engine.saes.normalisations import (
    Centred,
    ConstantNorm,
    LayerNorm,
    Normalisation,
    Unnormalised,
)
from microscope.engine.saes.sae import Sae
from microscope.engine.saes.saelens_settings import (
    SETTINGS_FILE,
    SaelensSettings,
    is_centred_at,
    read_settings,
    site_of,
    site_out_of,
)
from microscope.engine.saes.tensor_file import TensorFile, opened
from microscope.engine.saes.transcoder import Transcoder

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from microscope.engine.saes.activations import Activation

WEIGHTS_FILE = "sae_weights.safetensors"

_NORMALISATIONS: dict[bool | str | None, Normalisation] = {
    None: Unnormalised(),
    False: Unnormalised(),
    "none": Unnormalised(),
    # The factor is not in the file; without it nothing is scaled, as SAELens does.
    True: Unnormalised(),
    "expected_average_only_in": Unnormalised(),
    "layer_norm": LayerNorm(),
    "constant_norm_rescale": ConstantNorm(),
}
_FACTOR_MISSING = (
    "This SAE was trained on activations scaled by a factor that its file does not hold, so "
    "its activations and its error may be far off."
)
_CENTRED_RELEASES = (
    "GPT2-Small-SAEs-Reformatted",
    "GPT2-Small-Feature-Splitting",
    "gpt2-small-mlp-out-saes",
)
"""Releases trained on centred weights whose settings do not say so."""


def recognises(folder: Path) -> bool:
    """Whether a folder has the settings and the weights."""
    return (folder / SETTINGS_FILE).is_file() and (folder / WEIGHTS_FILE).is_file()


def outline(folder: Path) -> SaeCard:
    """What the folder's settings say, without its weights. Raises `SaeUnreadable`."""
    settings = read_settings(folder)
    site = site_of(folder, settings)
    _normalisation(folder, settings)
    return SaeCard(
        name=site,
        source=str(folder),
        site=site,
        site_out=site_out_of(folder, settings),
        d_out=0 if settings.width_out == settings.d_in else settings.width_out,
        architecture=settings.architecture,
        n_features=settings.d_sae,
        d_in=settings.d_in,
        is_folded=False,
        remark=_FACTOR_MISSING if _lacks_its_factor(settings) else "",
    )


def read(folder: Path, device: torch.device) -> Sae:
    """The SAE in a folder, decoder norms folded in where that is exact.

    Raises:
        SaeUnreadable: settings or weights are damaged, or of a kind that cannot be opened.
    """
    card = outline(folder)
    settings = read_settings(folder)
    with opened(folder / WEIGHTS_FILE, device) as weights:
        sae = Sae(
            card=card,
            w_enc=weights.matrix("W_enc", card.d_in, card.n_features),
            b_enc=_encoder_bias(weights, settings),
            w_dec=_decoder(weights, settings),
            b_dec=weights.read("b_dec", settings.width_out),
            activation=_activation(weights, settings),
            normalisation=_normalisation(folder, settings),
            subtracts_b_dec=settings.apply_b_dec_to_input and not settings.is_transcoder,
        )
        if settings.is_transcoder:
            sae = Transcoder(**vars(sae), w_skip=_skip(weights, settings))
        return sae.folded()


def _skip(weights: TensorFile, settings: SaelensSettings) -> Tensor | None:
    if "skip" not in settings.architecture:
        return None
    return weights.matrix("W_skip", settings.width_out, settings.d_in)


def _encoder_bias(weights: TensorFile, settings: SaelensSettings) -> Tensor:
    if settings.architecture == "gated":  # the gate and the magnitude have their own
        return torch.zeros_like(weights.read("b_gate", settings.d_sae))
    return weights.read("b_enc", settings.d_sae)


def _decoder(weights: TensorFile, settings: SaelensSettings) -> Tensor:
    """Decoder rows; an old fine-tuning factor acts at decoding only, so it is put in here."""
    if "scaling_factor" not in weights or not settings.finetuning_scaling_factor:
        return weights.matrix("W_dec", settings.d_sae, settings.width_out)
    rows = weights.read("W_dec", settings.d_sae, settings.width_out)
    return rows * weights.read("scaling_factor", settings.d_sae)[:, None]


def _activation(weights: TensorFile, settings: SaelensSettings) -> Activation:
    n_features = settings.d_sae
    if settings.architecture == "gated":
        names = ("b_gate", "r_mag", "b_mag")
        return Gated(*(weights.read(name, n_features) for name in names))
    if settings.architecture.startswith("jumprelu"):
        return JumpReLU(weights.read("threshold", n_features))
    if settings.architecture == "topk":
        return _topk(settings)
    if settings.architecture == "abstopk":
        return _abs_topk(settings)
    return ReLU()


def _topk(settings: SaelensSettings) -> TopK:
    if settings.k is None:
        raise SaeUnreadable("A top-k SAE needs the number k.")
    return TopK(settings.k, by_length=bool(settings.rescale_acts_by_decoder_norm))


def _abs_topk(settings: SaelensSettings) -> AbsTopK:
    if settings.k is None or settings.rescale_acts_by_decoder_norm:
        raise SaeUnreadable("A signed top-k SAE is known with a k and without rescaling only.")
    return AbsTopK(settings.k)


def _normalisation(folder: Path, settings: SaelensSettings) -> Normalisation:
    mode = settings.normalize_activations
    # Heads stand side by side in what the output projection reads: "hook_z" asks for that.
    if settings.reshape_activations not in (None, "none", "hook_z"):
        raise SaeUnreadable(
            f"The SAE in {folder} reshapes activations by "
            f"{settings.reshape_activations!r}, which is not known here."
        )
    if mode not in _NORMALISATIONS:
        raise SaeUnreadable(
            f"The SAE in {folder} normalises activations by {mode!r}, which is not known here."
        )
    chosen = _NORMALISATIONS[mode]
    is_centred = settings.is_centred or any(name in str(folder) for name in _CENTRED_RELEASES)
    is_centred = is_centred and is_centred_at(site_of(folder, settings))
    if settings.is_transcoder and (is_centred or not isinstance(chosen, Unnormalised)):
        raise SaeUnreadable(
            f"The transcoder in {folder} was trained on "
            + ("centred" if is_centred else "token by token normalised")
            + " activations. Transcoders of activations as they are can be opened."
        )
    return Centred() if is_centred and isinstance(chosen, Unnormalised) else chosen


def _lacks_its_factor(settings: SaelensSettings) -> bool:
    return settings.normalize_activations in (True, "expected_average_only_in")


SAELENS = SaeFormat("SAELens", recognises, outline, read)
