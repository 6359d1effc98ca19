"""SAEs made from the principal axes of a model's own activations: good where they were made."""

import torch

from microscope.core.cards import SaeCard
from microscope.core.messages import Progress
from microscope.core.prompts import Prompt
from microscope.engine.checkup.documents import DOCUMENTS
from microscope.engine.checkup.recording import record
from microscope.engine.saes.activations import ReLU
from microscope.engine.saes.normalisations import Unnormalised
from microscope.engine.saes.sae import Sae

TICK = Progress(run_id=0, text="")


def result_of(generator):
    """What a generator returns."""
    try:
        while True:
            next(generator)
    except StopIteration as end:
        return end.value


def activations(model, *sites):
    """What stands at sites on the text of the check-up: (n_tokens, d_model) each."""
    texts = [model.tokeniser.encode(Prompt(text))[:64] for text in DOCUMENTS]
    return result_of(record(model, texts, sites, TICK))


def _sae(site, w_enc, b_enc, w_dec, b_dec, *, subtracts):
    n_features, d_in = w_dec.shape
    return Sae(
        card=SaeCard(site, "memory", site, "standard", n_features, d_in),
        w_enc=w_enc.contiguous(),
        b_enc=b_enc,
        w_dec=w_dec.contiguous(),
        b_dec=b_dec,
        activation=ReLU(),
        normalisation=Unnormalised(),
        subtracts_b_dec=subtracts,
    )


def principal_axes(x, n_axes):
    x = x.float()
    _, _, axes = torch.linalg.svd(x - x.mean(0), full_matrices=False)
    return axes[:n_axes]


def pca_sae(x, site, n_axes=16):
    """A feature for either direction of every axis: x^ is x projected on the axes."""
    axes = principal_axes(x, n_axes)
    rows = torch.cat((axes, -axes))
    return _sae(site, rows.T, torch.zeros(len(rows)), rows, x.float().mean(0), subtracts=True)


def saturating_sae(x, site, n_axes=24):
    """Two features an axis whose difference follows x and stays within its range."""
    axes, mean = principal_axes(x, n_axes), x.float().mean(0)
    along = (x.float() - mean) @ axes.T
    reach = along.abs().max(dim=0).values
    offset = axes @ mean
    return _sae(
        site,
        torch.cat((axes, axes)).T,
        torch.cat((reach - offset, -reach - offset)),
        torch.cat((axes, -axes)),
        mean - reach @ axes,
        subtracts=False,
    )
