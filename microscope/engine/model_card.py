"""Writes down what is known of a freshly opened model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from microscope.core.cards import ModelCard
from microscope.engine.exactness import lens_tolerance
from microscope.engine.precision import QUANTISED

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

    from microscope.engine.architectures import Anatomy

_CONTEXT_NAMES = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "context_length",
)
_CONTEXT_IF_UNSAID = 2048
_QUANTISED_REMARK = (
    "The weights are rounded to few bits: activations, and with them an SAE's features, are a "
    "little off, and in 8 bits a word's numbers depend slightly on the words run beside it."
)


def describe(
    name: str, source: str, network: PreTrainedModel, anatomy: Anatomy, has_chat_template: bool
) -> ModelCard:
    """The card of a network, before its lens has been tried."""
    config = network.config.get_text_config(decoder=True)
    return ModelCard(
        name=name,
        source=source,
        architecture=anatomy.architecture,
        n_layers=anatomy.n_layers,
        d_model=int(config.hidden_size),
        n_vocabulary=anatomy.n_vocabulary,
        context_length=context_length(config),
        n_parameters=sum(parameter.numel() for parameter in network.parameters()),
        dtype=str(network.dtype).removeprefix("torch."),
        device=str(network.device),
        has_chat_template=has_chat_template,
    )


def with_verdict(
    card: ModelCard, network: PreTrainedModel, lens_error: float, remark: str
) -> ModelCard:
    """The card with what a trial of the lens found, and a sentence where it is not exact."""
    if lens_error <= lens_tolerance(network.dtype):
        return msgspec.structs.replace(card, is_exact=True, remark=remark)
    sentence = (
        f"The last row of the lens differs from the model's own logits by {lens_error:.1%} of "
        "the largest, so this model finishes its logits in a way not known here. "
    )
    return msgspec.structs.replace(card, is_exact=False, remark=(sentence + remark).strip())


def with_precision(card: ModelCard, network: PreTrainedModel, precision: str) -> ModelCard:
    """The card of a network in 8 or 4 bits, whose weights are packed; else the same card."""
    if precision not in QUANTISED:
        return card
    return msgspec.structs.replace(
        card,
        dtype=precision,
        n_parameters=int(network.num_parameters()),
        remark=f"{_QUANTISED_REMARK} {card.remark}".strip(),
    )


def context_length(config: PreTrainedConfig) -> int:
    """The most tokens that a model reads, as its configuration says; else a cautious guess."""
    lengths = (getattr(config, name, None) for name in _CONTEXT_NAMES)
    return next((n for n in lengths if isinstance(n, int) and n > 0), _CONTEXT_IF_UNSAID)


def eos_ids(network: PreTrainedModel, of_tokenizer: int | None) -> frozenset[int]:
    """Ids that end a text: the tokenizer's and those of the generation settings."""
    of_settings: Any = getattr(network.generation_config, "eos_token_id", None)
    several = of_settings if isinstance(of_settings, list | tuple) else [of_settings]
    return frozenset(i for i in (of_tokenizer, *several) if isinstance(i, int))
