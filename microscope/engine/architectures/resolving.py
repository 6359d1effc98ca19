"""Looks up a family's names in a network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from microscope.core.errors import ModelUnreadable
from microscope.engine.architectures.anatomy import Anatomy, LogitFinish
from microscope.engine.architectures.cohere import COHERE
from microscope.engine.architectures.gemma import GEMMA
from microscope.engine.architectures.gemma2 import GEMMA2
from microscope.engine.architectures.gemma3 import GEMMA3, GEMMA3_VISION
from microscope.engine.architectures.generic import guess_architecture
from microscope.engine.architectures.gpt2 import GPT2
from microscope.engine.architectures.gpt_neox import GPT_NEOX
from microscope.engine.architectures.granite import GRANITE
from microscope.engine.architectures.llama import LLAMA
from microscope.engine.architectures.mamba import MAMBA
from microscope.engine.architectures.mistral import MISTRAL
from microscope.engine.architectures.olmo import OLMO, OLMO2
from microscope.engine.architectures.opt import OPT
from microscope.engine.architectures.phi import PHI
from microscope.engine.architectures.phi3 import PHI3
from microscope.engine.architectures.qwen2 import QWEN2
from microscope.engine.architectures.qwen3 import QWEN3
from microscope.engine.architectures.rwkv import RWKV

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from microscope.engine.architectures.architecture import Architecture

ARCHITECTURES: tuple[Architecture, ...] = (
    GPT2,
    GPT_NEOX,
    LLAMA,
    MISTRAL,
    QWEN2,
    QWEN3,
    GEMMA,
    GEMMA2,
    GEMMA3,
    GEMMA3_VISION,
    PHI,
    PHI3,
    OPT,
    OLMO,
    OLMO2,
    COHERE,
    GRANITE,
    MAMBA,
    RWKV,
)

_BY_MODEL_TYPE = {kind: family for family in ARCHITECTURES for kind in family.model_types}


def anatomy_of(network: PreTrainedModel) -> Anatomy:
    """Find the parts of a decoder-only network: by its family's file, else by looking.

    Raises:
        ModelUnreadable: no stack of blocks with a norm after it, or no unembedding.
    """
    text_config = network.config.get_text_config(decoder=True)
    known = _BY_MODEL_TYPE.get(network.config.model_type)
    for family in (known, guess_architecture(network, text_config)):
        anatomy = _resolve(network, family, text_config) if family else None
        if anatomy is not None:
            return anatomy
    raise ModelUnreadable(
        f"The layers of this model ({type(network).__name__}) cannot be found: it has no "
        "plain stack of blocks with a norm and an unembedding after it. Open a "
        "decoder-only model such as GPT-2, Llama, Qwen or Gemma."
    )


def _resolve(
    network: PreTrainedModel, family: Architecture, text_config: object
) -> Anatomy | None:
    """The anatomy by a family's names; None where a name is not in this network."""
    head = network.get_output_embeddings()  # type: ignore[no-untyped-call]
    try:
        blocks = network.get_submodule(family.blocks)
        final_norm = _final_norm(network, family)
    except AttributeError:
        return None
    if not isinstance(blocks, nn.ModuleList) or len(blocks) == 0 or head is None:
        return None
    return Anatomy(
        network=network,
        family=family,
        embedding=network.get_input_embeddings(),
        blocks=tuple(blocks),
        final_norm=final_norm,
        head=head,
        logit_finish=_logit_finish(family, text_config),
        is_parallel=bool(family.parallel_flag and getattr(text_config, family.parallel_flag)),
    )


def _final_norm(network: PreTrainedModel, family: Architecture) -> nn.Module:
    norm = _module_or_none(network, family.final_norm) or nn.Identity()
    after = family.after_norm and _module_or_none(network, family.after_norm)
    return nn.Sequential(norm, after) if after else norm


def _module_or_none(network: nn.Module, path: str) -> nn.Module | None:
    """The module at a path; None where the place is there and empty (some OPT sizes).

    Raises:
        AttributeError: there is no such place.
    """
    trunk, _, name = path.rpartition(".")
    module: nn.Module | None = getattr(network.get_submodule(trunk), name)
    return module


def _logit_finish(family: Architecture, text_config: Any) -> LogitFinish:
    def number(name: str | None) -> float | None:
        value = getattr(text_config, name, None) if name else None
        return None if value is None else float(value)

    return LogitFinish(
        multiplier=number(family.logit_multiplier),
        divisor=number(family.logit_divisor),
        cap=number(family.logit_cap),
    )
