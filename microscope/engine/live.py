"""The steered text, written again from as little as possible when a clamp moves.

What lies below the lowest clamp does not change: its keys and values, and the residual that
leaves it, for the prompt and for the text written a moment ago. So a tick is one pass of the
blocks above over prompt and old text, a comparison of each position's choice with the token
that stands there, and decoding from the first difference. The draws being tied to positions,
the outcome is the text that a fresh run would give.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from microscope.engine.caches import can_crop, crop
from microscope.engine.clamping import clamped, editable_positions
from microscope.engine.generation import Written, probability_of
from microscope.engine.interrupting import Interrupted, interruptible, never
from microscope.engine.sampling import choose
from microscope.engine.skipping import KeptOutput, blocks_skipped, output_kept
from microscope.engine.unclamped import UnclampedText, kl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import numpy as np

    from microscope.core.prompts import Sampler
    from microscope.engine.caches import Past
    from microscope.engine.clamping import ClampSet
    from microscope.engine.language_model import LanguageModel

log = logging.getLogger(__name__)

KL_GROUP = 8
"""Written tokens whose KL is measured in one pass."""

DRAFT_BYTES = 1 << 28
"""What the logits of one pass over old text may weigh; text beyond is written anew."""

TOLERANCE = 1e-3
"""How far a pass from the middle may be from a whole one, in float32 logits; else it is not
used for that model. Rounding in a narrower dtype may differ more, so it is widened there."""


@dataclass
class Trail:
    """What a run left behind for the next one: tokens, cache, and the residual half-way up.

    The cache and `kept` hold the first `n_fed` tokens of `sequence`.
    """

    n_prompt: int
    sequence: list[int]
    cache: Past
    kept: KeptOutput
    n_fed: int = 0

    def crop(self, n_tokens: int) -> None:
        """Forget everything after the first `n_tokens` tokens that were fed.

        Also mends what a pass that was left half-way put into some layers.
        """
        self.n_fed = min(self.n_fed, n_tokens)
        if can_crop(self.cache):
            crop(self.cache, self.n_fed)
        self.kept.crop(self.n_fed)


@dataclass(frozen=True)
class Stretch:
    """New tokens from `position` on, each with the logits `(n_vocab,)` it was drawn from."""

    position: int
    written: tuple[Written, ...]
    logits: tuple[Tensor, ...] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Kl:
    """KL(steered || unclamped) in nats at written positions from `position` on."""

    position: int
    values: np.ndarray  # float32 (n,)


class LiveText:
    """Steered text with its KL, for one model; see `LiveWriter`."""

    def __init__(self, model: LanguageModel, should_stop: Callable[[], bool] = never) -> None:
        self._writer = LiveWriter(model, should_stop)
        self._unclamped = UnclampedText(model)

    def write(
        self,
        ids: Sequence[int],
        clamp_set: ClampSet,
        sampler: Sampler,
        seed: int,
        max_new_tokens: int,
    ) -> Iterator[Stretch | Kl]:
        """The stretches of `LiveWriter.write`, and the KL of every token soon after it.

        The same text is read without clamps, several tokens in one pass.
        """
        sequence, waiting = list(ids), list[Tensor]()
        for stretch in self._writer.write(ids, clamp_set, sampler, seed, max_new_tokens):
            yield stretch
            sequence += [written.id for written in stretch.written]
            waiting += stretch.logits
            if len(waiting) >= KL_GROUP:
                yield self._measured(sequence, waiting, len(ids))
                waiting = []
        if waiting:
            yield self._measured(sequence, waiting, len(ids))

    def _measured(self, sequence: list[int], waiting: list[Tensor], n_prompt: int) -> Kl:
        first = len(sequence) - len(waiting)
        return Kl(first - n_prompt, kl(waiting, self._unclamped.logits(sequence, first)))


class LiveWriter:
    """Writes steered text for one model and remembers the last one."""

    def __init__(self, model: LanguageModel, should_stop: Callable[[], bool] = never) -> None:
        self._model = model
        self._should_stop = should_stop
        self._trail: Trail | None = None
        self._is_owed = False
        """Whether the last text was left before any of it was there. The next one's first pass
        is then run to its end, else a drag that is quicker than a pass would show nothing."""
        self._can_skip: bool | None = None if can_crop(model.new_cache()) else False

    def write(
        self,
        ids: Sequence[int],
        clamp_set: ClampSet,
        sampler: Sampler,
        seed: int,
        max_new_tokens: int,
    ) -> Iterator[Stretch]:
        """Write until an end token, `max_new_tokens` or the context's end.

        The first stretch holds all of the old text that still stands and the token after it;
        every other one holds one token. Same arguments, errors and tokens as
        `generation.write`.
        """
        sampler.check()
        n_most = min(len(ids) + max_new_tokens, self._model.card.context_length)
        try:
            trail, logits = self._prepared(list(ids), clamp_set, n_most)
        except Interrupted:
            self._is_owed = True
            raise
        self._is_owed = False
        stretch = self._compared(trail, logits, sampler, seed, n_most)
        while stretch.written:
            self._trail = trail
            yield stretch
            last = stretch.written[-1].id
            if last in self._model.eos_ids or len(trail.sequence) >= n_most:
                return
            logits = self._fed(trail, clamp_set)
            stretch = self._compared(trail, logits, sampler, seed, n_most)

    # -- a tick: one pass over prompt and old text ------------------------------------

    def _prepared(
        self, ids: list[int], clamp_set: ClampSet, n_most: int
    ) -> tuple[Trail, Tensor]:
        """A trail with prompt and draft fed, and the logits after the prompt and on."""
        old = self._trail
        if old is None or old.sequence[: old.n_prompt] != ids or self._can_skip is False:
            fresh = Trail(len(ids), ids, self._new_cache(), self._kept(clamp_set))
            return fresh, self._fed(fresh, clamp_set)
        n_rows = max(1, DRAFT_BYTES // (4 * self._model.card.n_vocabulary))
        n_read = min(old.n_fed, n_most - 1, len(ids) + n_rows - 1)
        draft = old.sequence[: max(len(ids), n_read)]
        return self._from_draft(old, draft, clamp_set)

    def _from_draft(
        self, old: Trail, draft: list[int], clamp_set: ClampSet
    ) -> tuple[Trail, Tensor]:
        fresh = Trail(old.n_prompt, draft, self._new_cache(), self._kept(clamp_set))
        keep = len(draft) - old.n_prompt + 1
        n_kept, n_wanted = old.kept.n_blocks, fresh.kept.n_blocks
        if not 0 < n_kept <= n_wanted or not self._may_skip(old, len(draft)):
            return fresh, self._run(fresh, draft, clamp_set, keep)
        if n_kept == n_wanted:
            fresh.kept.pieces = [old.kept.joined()[:, : len(draft)]]
            fresh.kept.rest = old.kept.rest
        with blocks_skipped(self._model.anatomy, old.kept, len(draft)):
            logits = self._run(fresh, draft, clamp_set, keep, is_kept=n_kept < n_wanted)
        old.crop(len(draft))
        if can_crop(fresh.cache) and can_crop(old.cache):
            fresh.cache.layers[:n_kept] = old.cache.layers[:n_kept]
        return fresh, logits

    def _compared(
        self, trail: Trail, logits: Tensor, sampler: Sampler, seed: int, n_most: int
    ) -> Stretch:
        """Choose at each position with logits; stop where the draft says otherwise or ends."""
        first = trail.n_fed + 1 - len(logits)  # the position that the first row chooses for
        written: list[Written] = []
        rows: list[Tensor] = []
        for place, row in enumerate(logits, first):
            if place >= n_most:
                break
            chosen = choose(row, trail.sequence[:place], sampler, seed, position=place)
            stands = place < len(trail.sequence) and trail.sequence[place] == chosen
            written.append(Written(chosen, probability_of(row, chosen)))
            rows.append(row)
            if not stands:
                trail.sequence = [*trail.sequence[:place], chosen]
                trail.crop(place)
                break
            if chosen in self._model.eos_ids:
                trail.sequence = trail.sequence[: place + 1]
                break
        return Stretch(first - trail.n_prompt, tuple(written), tuple(rows))

    # -- feeding ------------------------------------------------------------------------

    def _fed(self, trail: Trail, clamp_set: ClampSet) -> Tensor:
        """Feed what is not fed yet; the logits after the last token, `(1, n_vocab)`."""
        return self._run(trail, trail.sequence[trail.n_fed :], clamp_set, keep=1)

    @torch.inference_mode()
    def _run(
        self,
        trail: Trail,
        new_ids: Sequence[int],
        clamp_set: ClampSet,
        keep: int,
        *,
        is_kept: bool = True,
    ) -> Tensor:
        model = self._model
        rows = torch.tensor([list(new_ids)], device=model.network.device)
        editable = editable_positions(rows, model.special_ids, trail.n_fed)
        kept = trail.kept if is_kept else KeptOutput(0)
        try:
            with (
                interruptible(model.anatomy, never if self._is_owed else self._should_stop),
                output_kept(model.anatomy, kept),
                clamped(model.anatomy, clamp_set, editable),
            ):
                logits: Tensor = model.step(rows, trail.cache, keep)[0].cpu()
        except BaseException:
            trail.crop(trail.n_fed)
            raise
        trail.n_fed += len(new_ids)
        return logits

    def _new_cache(self) -> Past:
        return self._model.new_cache()

    def _kept(self, clamp_set: ClampSet) -> KeptOutput:
        if self._can_skip is False:
            return KeptOutput(0)
        return KeptOutput(clamp_set.n_untouched_blocks(self._model.anatomy.n_layers))

    # -- whether this model can be run from the middle --------------------------------------

    def _may_skip(self, old: Trail, n_tokens: int) -> bool:
        """Whether a pass from the middle gives this model's own logits; measured once."""
        if self._can_skip is None:
            self._can_skip = self._skips_exactly(old, n_tokens)
            if not self._can_skip:
                log.warning("this model cannot be run from the middle; texts are written whole")
        return self._can_skip

    @torch.inference_mode()
    def _skips_exactly(self, old: Trail, n_tokens: int) -> bool:
        model = self._model
        rows = torch.tensor([old.sequence[:n_tokens]], device=model.network.device)
        whole = model.step(rows, self._new_cache(), 1)
        with blocks_skipped(model.anatomy, old.kept, n_tokens):
            part = model.step(rows, self._new_cache(), 1)
        is_wide = model.network.dtype in (torch.float32, torch.float64)
        limit = TOLERANCE if is_wide else 100 * TOLERANCE
        difference = (whole - part).abs().max() / whole.abs().max().clamp_min(1)
        return bool(difference <= limit)
