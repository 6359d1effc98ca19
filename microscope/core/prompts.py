"""What is given to the model and how its answer is drawn."""

from __future__ import annotations

import msgspec

from microscope.core.errors import SamplerRejected


class Token(msgspec.Struct, frozen=True):
    """One token: its id, its text as decoded alone, and whether it is special (BOS, EOS, ...).

    A token that holds part of a character only has text such as `⟨e2⟩`, one group a byte.
    """

    id: int
    text: str
    is_special: bool = False


class Prompt(msgspec.Struct, frozen=True):
    """Text as the user typed it; with `is_chat`, one user turn put into the chat template.

    Where `ids` are given they are used as they stand, and the text is for display only.
    """

    text: str
    is_chat: bool = False
    ids: tuple[int, ...] | None = None


def is_empty(prompt: Prompt) -> bool:
    """Whether there is nothing to give to the model."""
    return not prompt.text and not prompt.ids


class Sampler(msgspec.Struct, frozen=True):
    """How the next token is drawn. Applied in this order; each default changes nothing.

    repetition_penalty (Keskar et al. 2019) on tokens already present, temperature (0 is
    greedy: the largest logit), top_k (0 is off), top_p (1 is off), min_p (0 is off).
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0

    def check(self) -> None:
        """Raise `SamplerRejected`, naming the first setting that is outside its range."""
        for name, value, is_valid, range_text in (
            ("temperature", self.temperature, 0 <= self.temperature <= 100, "from 0 to 100"),
            ("top-k", self.top_k, 0 <= self.top_k <= 10_000_000, "0 (off) or more"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "above 0 and at most 1"),
            ("min-p", self.min_p, 0 <= self.min_p <= 1, "from 0 to 1"),
            (
                "repetition penalty",
                self.repetition_penalty,
                0.01 <= self.repetition_penalty <= 100,
                "from 0.01 to 100 (1 is off)",
            ),
        ):
            if not is_valid:  # also catches NaN
                raise SamplerRejected(f"The {name} must be {range_text}; it is {value}.")
