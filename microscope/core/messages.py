"""What crosses the pipe between window and engine: requests one way, events the other.

Data only. Every event names the run it belongs to; 0 is the process itself. There is one slot
for each kind of request, and a newer request takes the place of an older one of its kind.
"""

from __future__ import annotations

from typing import Literal

import msgspec
import numpy as np

from microscope.core.cards import ModelCard, SaeCard
from microscope.core.checkup import Finding, Published
from microscope.core.features import Clamp
from microscope.core.prompts import Prompt, Sampler, Token

PROTOCOL_VERSION = 1

TOP_TOKENS = 10
"""How many tokens a lens cell keeps."""

Stream = Literal["baseline", "steered"]
Slot = Literal["model", "saes", "read", "generate", "checkup"]


class Request(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """Something that the window asks of the engine."""

    run_id: int


class OpenModel(Request, frozen=True, tag="open_model", kw_only=True):
    """Open the model in a folder; the one that was open, its SAEs and runs are dropped.

    `dtype` is auto, float32, bfloat16, float16, or 8bit or 4bit where that is installed.
    """

    source: str
    device: str = "auto"
    dtype: str = "auto"


class OpenSaes(Request, frozen=True, tag="open_saes", kw_only=True):
    """Have exactly these SAEs open: missing ones are loaded, others are closed."""

    sources: tuple[str, ...]


class Read(Request, frozen=True, tag="read", kw_only=True):
    """Run the prompt once; send tokens, lens cells and features.

    `top` tokens per cell; at most `max_features` features per token, strongest first.
    """

    prompt: Prompt
    clamps: tuple[Clamp, ...] = ()
    top: int = TOP_TOKENS
    max_features: int = 64


class Generate(Request, frozen=True, tag="generate", kw_only=True):
    """Write on from the prompt twice with the same draws: without clamps and with them.

    With no active clamps the steered text is the baseline, and only the baseline is sent.
    """

    prompt: Prompt
    clamps: tuple[Clamp, ...] = ()
    sampler: Sampler = Sampler()
    seed: int = 0
    max_new_tokens: int = 48


class CheckUp(Request, frozen=True, tag="check_up", kw_only=True):
    """Measure whether the open model and SAEs are what they seem; runs when nothing else does.

    `published` tells what is known of SAEs, by name.
    """

    published: dict[str, Published] = {}


class Cancel(Request, frozen=True, tag="cancel", kw_only=True):
    """Stop what runs or waits in a slot."""

    slot: Slot


class Shutdown(Request, frozen=True, tag="shutdown", kw_only=True):
    """Stop everything and end the process."""


AnyRequest = OpenModel | OpenSaes | Read | Generate | CheckUp | Cancel | Shutdown

SLOTS: dict[type[Request], Slot] = {
    OpenModel: "model",
    OpenSaes: "saes",
    Read: "read",
    Generate: "generate",
    CheckUp: "checkup",
}


class Event(msgspec.Struct, frozen=True, tag_field="kind", kw_only=True):
    """Something that the engine reports."""

    run_id: int


class EngineReady(Event, frozen=True, tag="engine_ready", kw_only=True):
    """The engine process is up and takes requests; `run_id` is 0."""

    protocol: int
    versions: dict[str, str]
    devices: tuple[str, ...]


class EngineLost(Event, frozen=True, tag="engine_lost", kw_only=True):
    """Made by the worker when the process is gone; `run_id` is 0."""

    summary: str
    details: str = ""
    will_restart: bool = True


class Progress(Event, frozen=True, tag="progress", kw_only=True):
    """How far a long step is; `total` 0 means not known."""

    text: str
    done: int = 0
    total: int = 0


class ModelOpened(Event, frozen=True, tag="model_opened", kw_only=True):
    """A model is open."""

    model: ModelCard


class SaeOpened(Event, frozen=True, tag="sae_opened", kw_only=True):
    """One SAE of an `OpenSaes` is open (newly or still)."""

    sae: SaeCard


class SaeRefused(Event, frozen=True, tag="sae_refused", kw_only=True):
    """One SAE of an `OpenSaes` cannot be opened; the others go on."""

    source: str
    summary: str


class PromptTokenised(Event, frozen=True, tag="prompt_tokenised", kw_only=True):
    """The first event of a `Read` and a `Generate`: the ids that the model is given."""

    tokens: tuple[Token, ...]


class LensRead(Event, frozen=True, tag="lens_read", kw_only=True):
    """Lens cells of a rectangle of sites (rows) and tokens (columns).

    Logsumexp and entropy are in nats. `texts` has every id of `ids`.
    """

    site: int
    token: int
    ids: np.ndarray  # int32 (n_sites, n_tokens, top), most probable first
    p: np.ndarray  # float32 (n_sites, n_tokens, top), softmax weights over the vocabulary
    logsumexp: np.ndarray  # float32 (n_sites, n_tokens)
    entropy: np.ndarray  # float32 (n_sites, n_tokens)
    texts: dict[int, str]


class FeaturesRead(Event, frozen=True, tag="features_read", kw_only=True):
    """The strongest features of one SAE for a stretch of tokens, strongest first.

    `indices` is -1 where a token has fewer. `error_share` is |x - x^|^2 / |x|^2, the share
    of the residual's squared norm that the SAE leaves unexplained.
    """

    sae: str
    token: int
    indices: np.ndarray  # int32 (n_tokens, n_shown)
    activations: np.ndarray  # float32 (n_tokens, n_shown)
    n_active: np.ndarray  # int32 (n_tokens,)
    error_share: np.ndarray  # float32 (n_tokens,)
    norm: np.ndarray  # float32 (n_tokens,), |x|


class TextWritten(Event, frozen=True, tag="text_written", kw_only=True):
    """New tokens from `position` on, which counts from 0 at the first written token.

    `probabilities` are the softmax weights that the model gave the tokens (with the clamps
    in force, before the sampler).
    """

    stream: Stream
    position: int
    tokens: tuple[Token, ...]
    probabilities: tuple[float, ...]


class KlMeasured(Event, frozen=True, tag="kl_measured", kw_only=True):
    """KL(steered || unclamped) in nats at written positions from `position` on.

    Both distributions are for the same steered text, the second one without clamps.
    """

    position: int
    values: np.ndarray  # float32 (n,)


class CheckedUp(Event, frozen=True, tag="checked_up", kw_only=True):
    """Everything that a `CheckUp` found."""

    findings: tuple[Finding, ...]


class LabelsImported(Event, frozen=True, tag="labels_imported", kw_only=True):
    """Labels for one SAE were brought in from a file; `run_id` is 0. Not the engine's doing."""

    sae: str
    summary: str


class LabelsRefused(Event, frozen=True, tag="labels_refused", kw_only=True):
    """A file's labels could not be brought in; `run_id` is 0. Not the engine's doing."""

    sae: str
    summary: str


class RunFinished(Event, frozen=True, tag="run_finished", kw_only=True):
    """The run is complete."""


class RunFailed(Event, frozen=True, tag="run_failed", kw_only=True):
    """The run stopped; `details` is empty where `summary` tells the user what to do."""

    summary: str
    details: str = ""


AnyEvent = (
    EngineReady
    | EngineLost
    | Progress
    | ModelOpened
    | SaeOpened
    | SaeRefused
    | PromptTokenised
    | LensRead
    | FeaturesRead
    | TextWritten
    | KlMeasured
    | CheckedUp
    | LabelsImported
    | LabelsRefused
    | RunFinished
    | RunFailed
)
