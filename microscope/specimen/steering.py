"""Writes text while features are held: many rows at once, each with its own feature.

A small sampler for choosing demonstrations; it needs no cache editing and no live slider.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from microscope.specimen.activations import hooked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

    from microscope.specimen.saes import Sae


TEMPERATURE = 0.7


@dataclass(frozen=True)
class Hold:
    """A feature of one SAE and the value to hold it at."""

    index: int
    value: float


@torch.inference_mode()
def write(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    prompt: str,
    sae: Sae,
    layer: int,
    holds: Sequence[Hold | None],
    *,
    n_texts: int,
    n_new_tokens: int,
    seed: int,
) -> list[str]:
    """`n_texts` texts for each hold in turn, without the prompt, cut at the end token.

    Every row starts from the same prompt. The draws for the first text (second, ...) are the
    same for every hold (Gumbel-max), so that these texts differ by what is held only.
    """
    each = [hold for hold in holds for _ in range(n_texts)]
    rows = torch.tensor([tokenizer(prompt)["input_ids"]]).repeat(len(each), 1)
    generator = torch.Generator().manual_seed(seed)
    written: list[torch.Tensor] = []
    ids, cache = rows, None
    with hooked(model, layer, HeldRows(sae, each)):
        for _ in range(n_new_tokens):
            output = model(ids, past_key_values=cache, use_cache=True, logits_to_keep=1)
            cache = output.past_key_values
            logits = output.logits[:, -1] / TEMPERATURE  # (n_rows, n_vocabulary)
            noise = torch.rand(n_texts, logits.shape[1], generator=generator)
            gumbel = -torch.log(-torch.log(noise.clamp(1e-9, 1 - 1e-7)))
            ids = (logits + gumbel.repeat(len(holds), 1)).argmax(1, keepdim=True)
            written.append(ids)
    tokens = torch.cat(written, dim=1)
    return [_text(tokenizer, row) for row in tokens.tolist()]


class HeldRows:
    """x' = x + (t - f(x)) W_dec[i] for each row, at every position but 0."""

    def __init__(self, sae: Sae, holds: Sequence[Hold | None]) -> None:
        index = torch.tensor([hold.index if hold else 0 for hold in holds])
        self._value = torch.tensor([hold.value if hold else 0.0 for hold in holds])[:, None]
        self._is_held = torch.tensor([hold is not None for hold in holds])[:, None]
        self._encoder = sae.w_enc.T[index]  # (n_rows, d_model)
        self._bias = sae.b_enc[index][:, None]
        self._threshold = sae.threshold[index][:, None]
        self._decoder = sae.w_dec[index][:, None]
        self._centre = sae.b_dec
        self._n_seen = 0

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """What leaves the layer (n_rows, n_tokens, d_model), with the features held."""
        p = torch.einsum("rtd,rd->rt", x - self._centre, self._encoder) + self._bias
        f = p * (p > self._threshold)
        change = (self._value - f) * self._is_held  # (n_rows, n_tokens)
        if self._n_seen == 0:
            change[:, 0] = 0.0
        self._n_seen += x.shape[1]
        return x + change[..., None] * self._decoder


def _text(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> str:
    if tokenizer.eos_token_id in ids:
        ids = ids[: ids.index(tokenizer.eos_token_id)]
    return str(tokenizer.decode(ids))
