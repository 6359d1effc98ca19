"""Four layers and no weights: for tests, and for drawing the window without a model.

Answers like the real engine. The steered text spells out the sum of the clamps, so that a
test can see which request it is looking at.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import numpy as np

from microscope.core.cards import ModelCard, SaeCard
from microscope.core.checkup import Finding
from microscope.core.errors import ModelUnreadable, PromptRejected
from microscope.core.messages import (
    PROTOCOL_VERSION,
    AnyEvent,
    AnyRequest,
    CheckedUp,
    CheckUp,
    EngineReady,
    FeaturesRead,
    Generate,
    KlMeasured,
    LensRead,
    ModelOpened,
    OpenModel,
    OpenSaes,
    Progress,
    PromptTokenised,
    Read,
    SaeOpened,
    SaeRefused,
    Stream,
    TextWritten,
)
from microscope.core.prompts import Token
from microscope.core.sites import lens_sites, resid_post

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

N_LAYERS = 4
N_FEATURES = 64
BOS = Token(0, "<bos>", is_special=True)


class FakeEngine:
    """The same requests and events as the real engine, made up but consistent.

    Special sources and prompts make it misbehave: the model `missing` is refused, the prompt
    `boom` raises, and the prompt `die` ends the process.
    """

    def __init__(self, seconds_per_token: float = 0.001) -> None:
        self._seconds_per_token = seconds_per_token
        self._saes: dict[str, SaeCard] = {}

    def hello(self) -> EngineReady:
        """No libraries, one device."""
        return EngineReady(run_id=0, protocol=PROTOCOL_VERSION, versions={}, devices=("cpu",))

    def heed(self, should_stop: Callable[[], bool]) -> None:
        """A step is short here; nothing needs to be interrupted."""

    def handle(self, request: AnyRequest) -> Generator[AnyEvent]:
        """The events of a request."""
        match request:
            case OpenModel():
                yield self._open_model(request)
            case OpenSaes():
                yield from self._open_saes(request)
            case Read():
                yield from self._read(request)
            case Generate():
                yield from self._generate(request)
            case CheckUp():
                yield from self._check_up(request)

    def _open_model(self, request: OpenModel) -> ModelOpened:
        if request.source == "missing":
            raise ModelUnreadable("There is no model in the folder 'missing'.")
        self._saes = {}
        return ModelOpened(
            run_id=request.run_id,
            model=ModelCard(
                name=os.path.basename(request.source) or "fake",
                source=request.source,
                architecture="fake",
                n_layers=N_LAYERS,
                d_model=16,
                n_vocabulary=1000,
                context_length=256,
                n_parameters=0,
                dtype="float32",
                device="cpu",
            ),
        )

    def _open_saes(self, request: OpenSaes) -> Generator[AnyEvent]:
        self._saes = {}
        for layer, source in enumerate(request.sources):
            if layer >= N_LAYERS:
                yield SaeRefused(run_id=request.run_id, source=source, summary="No such layer.")
                continue
            name = resid_post(layer)
            card = SaeCard(name, source, name, "standard", N_FEATURES, 16)
            self._saes[name] = card
            yield SaeOpened(run_id=request.run_id, sae=card)

    def _read(self, request: Read) -> Generator[AnyEvent]:
        tokens = tokenise(request.prompt.text)
        yield PromptTokenised(run_id=request.run_id, tokens=tokens)
        for site in reversed(range(len(lens_sites(N_LAYERS)))):
            yield lens_row(request.run_id, site, len(tokens), request.top)
        for name in self._saes:
            yield feature_rows(request.run_id, name, len(tokens))

    def _generate(self, request: Generate) -> Generator[AnyEvent]:
        tokens = tokenise(request.prompt.text)
        yield PromptTokenised(run_id=request.run_id, tokens=tokens)
        active = [clamp for clamp in request.clamps if not clamp.is_muted]
        total = sum(clamp.value for clamp in active)
        for position in range(request.max_new_tokens):
            time.sleep(self._seconds_per_token)
            yield written(request.run_id, "baseline", position, "word ")
            if active:
                yield written(request.run_id, "steered", position, f"{total:g} ")
        if active:
            kl = np.full(request.max_new_tokens, 0.5, np.float32)
            yield KlMeasured(run_id=request.run_id, position=0, values=kl)

    def _check_up(self, request: CheckUp) -> Generator[AnyEvent]:
        yield Progress(run_id=request.run_id, text="Checking the model")
        logits = Finding("Logits", True, 0.0, 1e-3, "The text is the model's own.")
        found = (logits, *map(finding, self._saes))
        yield CheckedUp(run_id=request.run_id, findings=found)


def finding(sae: str) -> Finding:
    """A finding on an SAE that passes."""
    sentence = "Explained variance 0.90 here; 3 features on at a token."
    return Finding(sae, True, 0.9, 0.5, sentence)


def tokenise(text: str) -> tuple[Token, ...]:
    """A token a word, after BOS."""
    if not text:
        raise PromptRejected("The prompt is empty. Type a few words.")
    if text == "boom":
        raise RuntimeError("the fake engine was asked to fail")
    if text == "die":
        os._exit(3)
    words: Sequence[str] = text.split(" ")
    spaced = [word if at == 0 else f" {word}" for at, word in enumerate(words)]
    return (BOS, *(Token(1 + sum(map(ord, word)) % 900, word) for word in spaced))


def lens_row(run_id: int, site: int, n_tokens: int, top: int) -> LensRead:
    """One row of cells: the deeper the site, the surer the guess."""
    sharpness = 0.2 + site / N_LAYERS
    p = np.exp(-sharpness * np.arange(top, dtype=np.float32))
    p = np.tile(p / p.sum() * 0.9, (1, n_tokens, 1))
    ids = np.arange(top, dtype=np.int32) + 10 * np.arange(n_tokens, dtype=np.int32)[:, None]
    cells = np.full((1, n_tokens), 3.0, np.float32)
    return LensRead(
        run_id=run_id,
        site=site,
        token=0,
        ids=ids[None],
        p=p,
        logsumexp=cells,
        entropy=cells / (1 + site),
        texts={int(token): f" w{token}" for token in ids.flat},
    )


def feature_rows(run_id: int, sae: str, n_tokens: int) -> FeaturesRead:
    """Three features on at every token."""
    indices = (np.arange(3)[None] * 7 + np.arange(n_tokens)[:, None]) % N_FEATURES
    activations = np.tile(np.array([6.0, 3.0, 1.0], np.float32), (n_tokens, 1))
    return FeaturesRead(
        run_id=run_id,
        sae=sae,
        token=0,
        indices=indices.astype(np.int32),
        activations=activations,
        n_active=np.full(n_tokens, 3, np.int32),
        error_share=np.full(n_tokens, 0.1, np.float32),
        norm=np.full(n_tokens, 10.0, np.float32),
    )


def written(run_id: int, stream: Stream, position: int, text: str) -> TextWritten:
    """One written token."""
    token = Token(1 + sum(map(ord, text)) % 900, text)
    return TextWritten(
        run_id=run_id, stream=stream, position=position, tokens=(token,), probabilities=(0.5,)
    )
