"""Holding SAE features at chosen values while the model runs.

A clamp moves the residual along the feature's decoder row by as much as its activation has to
change: `x' = x + (target - f(x)) · J · w_dec[i]`, J being what one unit of the SAE's space is
worth in the stream. Equal to decoding the edited activations and adding back what the SAE
fails to reconstruct, so holding a feature at its present value changes nothing.

A transcoder's feature is encoded from what stands where the transcoder reads, edits of that
place included, and is written where it writes: later in the same pass, at one site or at
several.
"""

from __future__ import annotations

import math
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import torch

from microscope.core.errors import ClampRejected
from microscope.core.sites import AnySite, Site, parse_site, resid_post
from microscope.engine.sites import find_place
from microscope.engine.tracing import attach_edit, tapped

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from torch import Tensor

    from microscope.core.features import Clamp
    from microscope.engine.architectures.anatomy import Anatomy
    from microscope.engine.saes.sae import ChosenFeatures, Sae
    from microscope.engine.sites import Place


_NOTHING: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Target:
    """What becomes of an activation `a`: `gain · a + offset`."""

    gain: float = 1.0
    offset: float = 0.0

    def then(self, clamp: Clamp) -> Target:
        """This change followed by a clamp's own."""
        gain, offset = {
            "clamp": (0.0, clamp.value),
            "add": (1.0, clamp.value),
            "scale": (clamp.value, 0.0),
            "ablate": (0.0, 0.0),
        }[clamp.mode]
        return Target(gain * self.gain, gain * self.offset + offset)


@dataclass(frozen=True, eq=False)
class SaeEdit:
    """The held features of one SAE. Activations `a` change by `alpha + beta · a`."""

    features: ChosenFeatures
    alpha: Tensor  # float32 (n_chosen,)
    beta: Tensor  # float32 (n_chosen,)
    is_blind: bool  # no beta: the change does not depend on present activations
    source: str = ""  # the site that is encoded, where it is not the one that is edited

    @classmethod
    def by_output(cls, sae: Sae, targets: Mapping[int, Target]) -> dict[str, SaeEdit]:
        """What brings features to their targets, for every site where they write."""
        device = sae.device
        offsets = [target.offset for target in targets.values()]
        betas = [target.gain - 1 for target in targets.values()]
        indices = torch.tensor(list(targets), device=device)
        return {
            site: cls(
                features,
                torch.tensor(offsets, dtype=torch.float32, device=device),
                torch.tensor(betas, dtype=torch.float32, device=device),
                is_blind=not any(betas),
                source=sae.card.site if sae.card.site_out else "",
            )
            for site, features in sae.chosen_by_output(indices).items()
        }

    def delta(self, x: Tensor) -> Tensor:
        """What has to be added where the features write, float32; one encode for all.

        Args:
            x: what stands where they are encoded, `(..., d_in)`.
        """
        frame = self.features.sae.frame(x)
        if self.is_blind:
            amounts = self.alpha.expand(*x.shape[:-1], -1)
        else:
            amounts = self.alpha + self.beta * self.features.encode(frame)
        return self.features.written(amounts, frame)


@dataclass(frozen=True, eq=False)
class SiteEdit:
    """Everything that is held at one site, of however many SAEs."""

    site: AnySite
    edits: tuple[SaeEdit, ...]

    def apply(
        self, x: Tensor, editable: Tensor, passed: Mapping[str, Tensor] = _NOTHING
    ) -> Tensor:
        """The edited residuals; every SAE of this site encodes the unedited ones.

        Args:
            x: residuals `(n_rows, n_new, d_model)` in the model's dtype, left as they are.
            editable: bool `(n_rows, n_new)`; other tokens come back bit by bit.
            passed: what stood at the other sites that transcoders encode, `(n_rows, n_new,
                d_in)` each, in the same call of the network.
        """
        deltas = [edit.delta(_encoded_by(edit, x, passed)) for edit in self.edits]
        summed = sum(deltas[1:], deltas[0])
        delta = summed.where(editable.to(x.device)[..., None], 0).to(x.dtype)
        # Adding 0 is not always the identity: it turns -0 into 0.
        return torch.where(delta == 0, x, x + delta)


@dataclass(frozen=True, eq=False)
class ClampSet:
    """All clamps in force, sorted by site and cut down to the tensors that they need."""

    edits: tuple[SiteEdit, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.edits)

    @property
    def sources(self) -> tuple[str, ...]:
        """The sites that are encoded for edits elsewhere, each once."""
        edits = (edit for site in self.edits for edit in site.edits)
        return tuple(dict.fromkeys(edit.source for edit in edits if edit.source))

    def n_untouched_blocks(self, n_layers: int) -> int:
        """How many of a model's first blocks give what they would give without the clamps.

        What they give is meant before any edit of it.
        """
        sites = [*(edit.site for edit in self.edits), *map(parse_site, self.sources)]
        return min((_n_blocks_before(site) for site in sites), default=n_layers)

    @classmethod
    def of(cls, clamps: Iterable[Clamp], saes: Mapping[str, Sae]) -> ClampSet:
        """Prepare clamps; muted ones and those that change nothing are dropped.

        Several clamps on one feature act one after the other, in the order given.

        Raises:
            ClampRejected: no such SAE is open, it has no such feature, or a value is no number.
        """
        targets: dict[str, dict[int, Target]] = {}
        for clamp in clamps:
            if clamp.is_muted:
                continue
            _check(clamp, saes)
            of_sae = targets.setdefault(clamp.feature.sae, {})
            so_far = of_sae.get(clamp.feature.index, Target())
            of_sae[clamp.feature.index] = so_far.then(clamp)
        sites: dict[AnySite, list[SaeEdit]] = {}
        for name, of_sae in targets.items():
            acting = {index: target for index, target in of_sae.items() if target != Target()}
            by_output = SaeEdit.by_output(saes[name], acting) if acting else {}
            for site, edit in by_output.items():
                sites.setdefault(_place(site), []).append(edit)
        return cls(tuple(SiteEdit(site, tuple(edits)) for site, edits in sites.items()))


@contextmanager
def clamped(anatomy: Anatomy, clamp_set: ClampSet, editable: Tensor) -> Iterator[None]:
    """Hold features for the `with` block, which is meant for one forward call.

    Args:
        anatomy: the model's modules.
        clamp_set: what to hold; an empty one leaves the model untouched.
        editable: bool `(n_rows, n_new)`, which of the tokens of that call may be edited.
    """
    with ExitStack() as stack:
        passed = stack.enter_context(tapped(anatomy, clamp_set.sources))
        for edit in _by_place(anatomy, clamp_set.edits):
            apply = partial(edit.apply, editable=editable, passed=passed)
            for handle in attach_edit(anatomy, edit.site, apply):
                stack.callback(handle.remove)
        yield


def editable_positions(ids: Tensor, special_ids: Collection[int], start: int = 0) -> Tensor:
    """Which tokens clamps may touch: all but the sequence's first and the special ones.

    Args:
        ids: `(n_rows, n_new)`, the tokens of one forward call.
        special_ids: ids that are left alone, such as those of a chat template.
        start: the position of the first of them in its sequence.

    Returns:
        Bool `(n_rows, n_new)`.
    """
    special = torch.tensor(sorted(special_ids), dtype=ids.dtype, device=ids.device)
    is_editable = torch.isin(ids, special, invert=True)
    if start == 0:
        is_editable[:, 0] = False  # the attention sink, whose features mean nothing
    return is_editable


def _encoded_by(edit: SaeEdit, x: Tensor, passed: Mapping[str, Tensor]) -> Tensor:
    """What an edit at a site encodes: what stands there, or what stood elsewhere before.

    Raises:
        ClampRejected: the network has not come past that other place yet.
    """
    if not edit.source:
        return x
    if edit.source not in passed:
        raise ClampRejected(
            f"{edit.features.sae.card.name} reads {edit.source}, which the open model computes "
            "only after the place where it writes, so its features cannot be clamped here."
        )
    return passed[edit.source]


def _check(clamp: Clamp, saes: Mapping[str, Sae]) -> None:
    name, index = clamp.feature.sae, clamp.feature.index
    if name not in saes:
        names = ", ".join(sorted(saes)) or "none"
        raise ClampRejected(f"No SAE called {name!r} is open. Open SAEs: {names}.")
    n_features = saes[name].card.n_features
    if not 0 <= index < n_features:
        raise ClampRejected(
            f"{name} has no feature {index}; its features are 0 to {n_features - 1}."
        )
    if clamp.mode != "ablate" and not math.isfinite(clamp.value):
        raise ClampRejected(
            f"The value {clamp.value} for feature {clamp.feature} is not a finite number."
        )


def _n_blocks_before(site: AnySite) -> int:
    """How many whole blocks have run before a site; 0 where that cannot be told."""
    if not isinstance(site, Site):
        return 0
    return max(0, site.layer + (site.hook == "hook_resid_post"))


def _place(name: str) -> AnySite:
    """One name for each place: what enters a block is what left the one before it."""
    site = parse_site(name)
    if isinstance(site, Site) and site.hook == "hook_resid_pre" and site.layer > 0:
        return Site.parse(resid_post(site.layer - 1))
    return site


def _by_place(anatomy: Anatomy, edits: Iterable[SiteEdit]) -> Iterator[SiteEdit]:
    """The edits, joined where two names stand for one place, so that both encode the same."""
    places: dict[Place, SiteEdit] = {}
    for edit in edits:
        place = find_place(anatomy, edit.site)
        known = places.get(place)
        places[place] = SiteEdit(known.site, known.edits + edit.edits) if known else edit
    yield from places.values()
