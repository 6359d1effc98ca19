"""Baseline and steered text of a `Generate`, as events.

The baseline does not depend on the clamps: it is written once for a prompt, a sampler and a
seed, and kept, also when it was interrupted half-way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from microscope.core.messages import KlMeasured, PromptTokenised, TextWritten
from microscope.engine.clamping import ClampSet
from microscope.engine.generation import Written, write
from microscope.engine.interrupting import never
from microscope.engine.live import Kl, LiveText

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence

    from microscope.core.messages import AnyEvent, Generate
    from microscope.engine.language_model import LanguageModel
    from microscope.engine.saes.sae import Sae


class Baseline:
    """The text without clamps, as far as it is written; can be continued at any time."""

    def __init__(self, model: LanguageModel, ids: Sequence[int], request: Generate) -> None:
        self._key = (tuple(ids), request.sampler, request.seed, request.max_new_tokens)
        self._rest = write(
            model,
            ids,
            ClampSet.of((), {}),
            request.sampler,
            request.seed,
            request.max_new_tokens,
        )
        self.written: list[Written] = []
        self._has_failed = False

    def is_for(self, ids: Sequence[int], request: Generate) -> bool:
        """Whether this is the text that the request would give without its clamps."""
        key = (tuple(ids), request.sampler, request.seed, request.max_new_tokens)
        return self._key == key and not self._has_failed

    def advance(self) -> Iterator[Written]:
        """Write on, remembering each token; after an error there is no going on."""
        try:
            for written in self._rest:
                self.written.append(written)
                yield written
        except Exception:
            self._has_failed = True
            raise


class Writer:
    """Writes for one open model."""

    def __init__(self, model: LanguageModel, should_stop: Callable[[], bool] = never) -> None:
        self._model = model
        self._live = LiveText(model, should_stop)
        self._baseline: Baseline | None = None

    def write(self, saes: Mapping[str, Sae], request: Generate) -> Generator[AnyEvent]:
        """The events of a `Generate`: baseline and steered tokens in turn.

        Raises:
            UserError: the prompt, the sampler or a clamp cannot be used, or the logits
                are no longer finite.
        """
        model = self._model
        request.sampler.check()
        ids = model.tokenise(request.prompt)
        clamp_set = ClampSet.of(request.clamps, saes)
        yield PromptTokenised(run_id=request.run_id, tokens=tuple(map(model.token, ids)))
        baseline = self._baseline_of(ids, request)
        if baseline.written:
            yield self._event(request.run_id, "baseline", 0, baseline.written)
        # A clamp that happens to change nothing is still one: its text is written and sent.
        has_clamps = any(not clamp.is_muted for clamp in request.clamps)
        steered = self._steered_events(ids, clamp_set, request) if has_clamps else iter(())
        yield from alternately(steered, self._baseline_events(baseline, request.run_id))

    def _baseline_of(self, ids: Sequence[int], request: Generate) -> Baseline:
        if self._baseline is None or not self._baseline.is_for(ids, request):
            self._baseline = Baseline(self._model, ids, request)
        return self._baseline

    def _baseline_events(self, baseline: Baseline, run_id: int) -> Iterator[AnyEvent]:
        for written in baseline.advance():
            position = len(baseline.written) - 1
            yield self._event(run_id, "baseline", position, [written])

    def _steered_events(
        self, ids: Sequence[int], clamp_set: ClampSet, request: Generate
    ) -> Iterator[AnyEvent]:
        for step in self._live.write(
            ids, clamp_set, request.sampler, request.seed, request.max_new_tokens
        ):
            if isinstance(step, Kl):
                yield KlMeasured(
                    run_id=request.run_id, position=step.position, values=step.values
                )
            else:
                yield self._event(request.run_id, "steered", step.position, step.written)

    def _event(
        self, run_id: int, stream: str, position: int, written: Sequence[Written]
    ) -> TextWritten:
        return TextWritten(
            run_id=run_id,
            stream="baseline" if stream == "baseline" else "steered",
            position=position,
            tokens=tuple(self._model.token(step.id) for step in written),
            probabilities=tuple(step.probability for step in written),
        )


def alternately(first: Iterator[AnyEvent], second: Iterator[AnyEvent]) -> Iterator[AnyEvent]:
    """One of each in turn, until both have ended."""
    waiting = [first, second]
    while waiting:
        for events in list(waiting):
            event = next(events, None)
            if event is None:
                waiting.remove(events)
            else:
                yield event
