"""Checks of the open model itself: our logits, the lens, the hooks and the start of a text."""

from __future__ import annotations

import math
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

import torch

from microscope.core.checkup import Finding
from microscope.core.errors import UserError
from microscope.core.prompts import Prompt
from microscope.core.sites import Site, lens_sites, parse_site, resid_post
from microscope.engine.checkup.documents import DOCUMENTS
from microscope.engine.clamping import (
    ClampSet,
    SaeEdit,
    SiteEdit,
    Target,
    clamped,
    editable_positions,
)
from microscope.engine.lenses import unembed
from microscope.engine.tracing import attach_edit, tapped

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from torch import Tensor

    from microscope.engine.language_model import LanguageModel
    from microscope.engine.saes.sae import Sae

MAX_TOKENS = 48
"""Tokens whose logits over the whole vocabulary are compared; a few copies live at once."""

_EXACT_NATS = 1e-3
_LAST_BITS = 4
"""In half precision a logit may differ by a few of its last bits between two kernels."""


def check_model(
    model: LanguageModel, saes: Mapping[str, Sae], ids: tuple[int, ...]
) -> Iterator[Finding]:
    """The findings on a model with its SAEs, for the ids of a text; a step each."""
    rows = torch.tensor([ids[:MAX_TOKENS]], device=model.network.device)
    plain = _plain_logits(model, rows)
    yield _check_logits(model, rows, plain)
    yield _check_last_row(model, rows, plain)
    yield _check_zero_edit(model, saes, rows, plain)
    yield check_start(model)


@torch.inference_mode()
def _plain_logits(model: LanguageModel, rows: Tensor) -> Tensor:
    """The network as transformers runs it, without a hook of ours: (n_tokens, n_vocabulary)."""
    logits: Tensor = model.network(input_ids=rows, use_cache=False).logits[0]
    return logits.float()


def _check_logits(model: LanguageModel, rows: Tensor, plain: Tensor) -> Finding:
    with tapped(model.anatomy, lens_sites(model.card.n_layers)):
        ours = model.step(rows, model.new_cache(), keep=0)[0]
    return _compared("Logits", "The text is written from", ours, plain, model)


@torch.inference_mode()
def _check_last_row(model: LanguageModel, rows: Tensor, plain: Tensor) -> Finding:
    last = resid_post(model.anatomy.n_layers - 1)
    with tapped(model.anatomy, (last,)) as taps:
        model.network(input_ids=rows, use_cache=False)
    lens = unembed(model.anatomy, taps[last][0])
    return _compared("Top row of the layers", "The top row shows", lens, plain, model)


def _compared(
    name: str, what: str, ours: Tensor, plain: Tensor, model: LanguageModel
) -> Finding:
    difference = _log_probability_difference(ours, plain)
    limit = log_probability_limit(model.network.dtype, float(plain.abs().max()))
    passed = difference <= limit
    kind = "the model's own probabilities" if passed else "other probabilities than the model's"
    sentence = f"{what} {kind}: they differ by at most {difference:.2g} nats."
    return Finding(name, passed, difference, limit, sentence)


def log_probability_limit(dtype: torch.dtype, largest_logit: float) -> float:
    """How far log-probabilities may differ, in nats, for a network of some dtype."""
    return max(_EXACT_NATS, _LAST_BITS * torch.finfo(dtype).eps * largest_logit)


def _log_probability_difference(ours: Tensor, plain: Tensor) -> float:
    if not bool(torch.isfinite(ours).all() and torch.isfinite(plain).all()):
        return math.nan
    return float((ours.log_softmax(-1) - plain.log_softmax(-1)).abs().max())


@torch.inference_mode()
def _check_zero_edit(
    model: LanguageModel, saes: Mapping[str, Sae], rows: Tensor, plain: Tensor
) -> Finding:
    """Hook every block, and a feature of every SAE, and change nothing."""
    anatomy = model.anatomy
    editable = editable_positions(rows, model.special_ids)
    with ExitStack() as stack:
        for layer in range(anatomy.n_layers):
            for handle in attach_edit(anatomy, Site(layer, "hook_resid_post"), torch.clone):
                stack.callback(handle.remove)
        stack.enter_context(clamped(anatomy, zero_edit(model, saes), editable))
        edited = model.network(input_ids=rows, use_cache=False).logits[0].float()
    is_same = torch.equal(edited, plain)
    difference = 0.0 if is_same else float((edited - plain).abs().max())
    words = "leaves every logit as it is, bit by bit" if is_same else "changes the logits"
    sentence = f"An edit that adds nothing {words}."
    return Finding("Edits", is_same, difference, 0.0, sentence)


def zero_edit(model: LanguageModel, saes: Mapping[str, Sae]) -> ClampSet:
    """The first feature of every SAE, changed by nothing, by the same way as any clamp.

    An SAE that cannot be clamped here is left out; its own finding says what is wrong.
    """
    edits: list[SiteEdit] = []
    for sae in saes.values():
        with suppress(UserError):
            of_sae = SaeEdit.by_output(sae, {0: Target()}).items()
            fresh = tuple(SiteEdit(parse_site(site), (edit,)) for site, edit in of_sae)
            with clamped(model.anatomy, ClampSet(fresh), torch.ones(1, 1, dtype=torch.bool)):
                edits.extend(fresh)
    return ClampSet(tuple(edits))


def check_start(model: LanguageModel) -> Finding:
    """Whether texts, and chats, begin as the model was trained to have them begin."""
    name, bos = "Start of the text", model.bos_id
    if bos is None:
        sentence = "This model's texts begin with their first word, without a special token."
        return Finding(name, True, 0.0, 0.0, sentence)
    counts = [_n_bos(model, Prompt(DOCUMENTS[0]))]
    if model.tokeniser.has_chat_template:
        # A chat template may leave BOS out, but it must not come on top of ours.
        counts.append(max(1, _n_bos(model, Prompt(DOCUMENTS[0], is_chat=True))))
    worst = max(counts, key=lambda count: abs(count - 1))
    passed = worst == 1
    ending = "." if passed else f", not with one: open a tokenizer that fits {model.card.name}."
    words = "one start token" if passed else f"{worst} start tokens"
    return Finding(name, passed, worst, 1.0, f"A text begins with {words}{ending}")


def _n_bos(model: LanguageModel, prompt: Prompt) -> int:
    return model.tokeniser.encode(prompt).count(model.bos_id or 0)
