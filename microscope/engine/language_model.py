"""An open language model: its network, its words, and one step through it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from microscope.core.errors import PromptRejected
from microscope.engine.architectures import anatomy_of
from microscope.engine.checkpoint import find_checkpoint
from microscope.engine.exactness import measure_lens_error
from microscope.engine.loading import choose_device, load_network, load_tokenizer
from microscope.engine.model_card import describe, eos_ids, with_precision, with_verdict
from microscope.engine.precision import choose_dtype
from microscope.engine.recurrence import new_cache, read_on
from microscope.engine.tokenising import Tokeniser

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from transformers import DynamicCache, PreTrainedModel

    from microscope.core.cards import ModelCard
    from microscope.core.prompts import Prompt, Token
    from microscope.engine.architectures import Anatomy
    from microscope.engine.recurrence import RecurrentState

    OnProgress = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A network with its tokenizer, ready to be read. Make one with `open`."""

    network: PreTrainedModel
    anatomy: Anatomy
    card: ModelCard
    tokeniser: Tokeniser
    eos_ids: frozenset[int]

    @classmethod
    def open(
        cls,
        source: str,
        device: str = "auto",
        dtype: str = "auto",
        on_progress: OnProgress | None = None,
    ) -> LanguageModel:
        """Open a model folder, or a hub id that is in this computer's cache; no network.

        `on_progress` is told a text, the steps done and the steps in all.

        Raises:
            ModelUnreadable: anything about the files, the device or the memory is wrong.
        """
        report = on_progress or _say_nothing
        report("Checking the files", 0, 4)
        checkpoint = find_checkpoint(source)
        place = choose_device(device)
        weights_dtype = choose_dtype(dtype, place)
        report("Reading the tokenizer", 1, 4)
        tokenizer = load_tokenizer(checkpoint.folder)
        report("Loading the weights", 2, 4)
        network, remark = load_network(
            checkpoint.folder, place, weights_dtype, dtype, may_spread=device == "auto"
        )
        anatomy = anatomy_of(network)
        tokeniser = Tokeniser(tokenizer, wants_bos=anatomy.family.wants_bos)
        report("Comparing the lens with the model", 3, 4)
        lens_error = measure_lens_error(network, anatomy, tokeniser.bos_id or 0)
        card = describe(checkpoint.name, source, network, anatomy, tokeniser.has_chat_template)
        card = with_verdict(card, network, lens_error, remark)
        card = with_precision(card, network, dtype)
        ends = eos_ids(network, tokenizer.eos_token_id)
        return cls(network, anatomy, card, tokeniser, ends)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids that are no part of the text: BOS, EOS, chat marks, padding."""
        return self.tokeniser.special_ids | self.eos_ids

    @property
    def bos_id(self) -> int | None:
        """The id that prompts begin with; None where the model wants none."""
        return self.tokeniser.bos_id

    @property
    def context_length(self) -> int:
        """The most tokens that the model can read."""
        return self.card.context_length

    def tokenise(self, prompt: Prompt) -> tuple[int, ...]:
        """The ids that the model is given: `prompt.ids`, or those of its text.

        Raises:
            PromptRejected: empty, too long, out of the vocabulary, or a chat without template.
        """
        ids = self.tokeniser.encode(prompt) if prompt.ids is None else tuple(prompt.ids)
        _check_ids(ids, self.card)
        return ids

    def token(self, token_id: int) -> Token:
        """One token for display; leading spaces and parts of characters are kept."""
        return self.tokeniser.token(token_id)

    def text(self, ids: Sequence[int]) -> str:
        """Decode without special tokens, spaces exactly as the model wrote them."""
        return self.tokeniser.text(ids)

    def new_cache(self) -> DynamicCache | RecurrentState:
        """An empty past, for `step`; the recurrent state of some families cannot be cropped."""
        return new_cache(self.network)

    @torch.inference_mode()
    def step(
        self, ids: Tensor, cache: DynamicCache | RecurrentState | None = None, keep: int = 1
    ) -> Tensor:
        """Run new tokens after those in the cache, which grows by them.

        `ids` is (n_rows, n_new), all rows of equal length and none padded. Returns float32
        (n_rows, keep, n_vocabulary), the logits after the last `keep` tokens; 0 keeps all.
        """
        options = {"logits_to_keep": keep} if self._can_keep_few else {}
        ids = ids.to(self.network.device)
        if cache is not None:
            return read_on(self.network, ids, cache, **options)[:, -keep:].float()
        logits: Tensor = self.network(input_ids=ids, use_cache=False, **options).logits
        return logits[:, -keep:].float()

    @cached_property
    def _can_keep_few(self) -> bool:
        """Whether the network can leave the unembedding of earlier tokens out."""
        return "logits_to_keep" in inspect.signature(self.network.forward).parameters


def _say_nothing(_text: str, _done: int, _total: int) -> None:
    return None


def _check_ids(ids: tuple[int, ...], card: ModelCard) -> None:
    if not ids:
        raise PromptRejected("The prompt is empty. Type a few words for the model to read.")
    if len(ids) > card.context_length:
        raise PromptRejected(
            f"The prompt is {len(ids)} tokens long, and this model reads at most "
            f"{card.context_length}. Shorten the prompt."
        )
    stray = next((i for i in ids if not 0 <= i < card.n_vocabulary), None)
    if stray is not None:
        raise PromptRejected(
            f"The prompt has the token id {stray}, and this model's ids run from 0 to "
            f"{card.n_vocabulary - 1}. Use ids of this model's own tokenizer."
        )
