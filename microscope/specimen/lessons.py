"""What helps a small model to learn, from little text, to hold in mind what a text is about.

Three aids, for training only; the finished model is an ordinary Llama. Word vectors start near
those of words from the same texts; an extra head asks for the words still to come; and what a
text is about is made stronger at random, so that later blocks stay grammatical under it.
"""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transformers import LlamaForCausalLM

    Rows = Sequence[Sequence[int]]

COUNTED_ROWS = 4000
CONTENT_SHARE = 0.1
"""A word in more than this share of texts tells nothing of what a text is about."""
RAREST = 5
"""A word in fewer texts than this is too rare to say what it goes with."""
OUTLOOK_STRIDE = 4
OUTLOOK_REACH = 24
FEW_TOKENS = 12
"""The mean of fewer tokens says more of these tokens than of the text, and counts for less."""
MEAN_MEMORY = 0.95


def presence(rows: Rows, n_vocabulary: int) -> torch.Tensor:
    """Which token is in which row, as 0 and 1: (n_rows, n_vocabulary)."""
    found = torch.zeros(len(rows), n_vocabulary)
    for number, row in enumerate(rows):
        found[number, list(set(row))] = 1.0
    return found


@torch.no_grad()
def place_words(model: LlamaForCausalLM, rows: Rows, share: float, std: float) -> None:
    """Start word vectors from which words share texts: the factors of their positive PMI.

    Levy & Goldberg 2014. `share` of the dimensions are set so, with standard deviation `std`,
    for words that are neither in most texts nor rare; all else keeps its random start.
    """
    weight = model.model.embed_tokens.weight  # (n_vocabulary, d_model)
    n_dimensions = round(share * weight.shape[1])
    if not n_dimensions:
        return
    found = presence(rows[:COUNTED_ROWS], len(weight))
    p = found.mean(0)
    is_telling = (p < CONTENT_SHARE) & (p * len(found) >= RAREST)
    found, p = found[:, is_telling], p[is_telling]
    together = found.T @ found / len(found)
    pmi = torch.log((together / torch.outer(p, p)).clamp_min(1.0))
    pmi.fill_diagonal_(0.0)
    u, s, _ = torch.svd_lowrank(pmi, q=min(n_dimensions, len(pmi)), niter=3)
    vectors = torch.nn.functional.normalize(u * s.sqrt(), dim=1)
    places = torch.nonzero(is_telling).flatten()
    weight[places, : vectors.shape[1]] = vectors * std * vectors.shape[1] ** 0.5


class Outlook(torch.nn.Module):
    """An extra head, for training only, that tells which words are still to come.

    It reads the residual after one block and is trained to give the content words of the rest
    of the text. So every position learns to hold what the text is about, where a model of this
    size would otherwise work it out only when a topic's word is due. The idea is that of
    predicting several tokens at once (Gloeckle et al. 2024), without their order.
    """

    def __init__(self, model: LlamaForCausalLM, rows: Rows, layer: int) -> None:
        super().__init__()
        n_vocabulary, d_model = model.config.vocab_size, model.config.hidden_size
        self.norm = torch.nn.RMSNorm(d_model)
        self.head = torch.nn.Linear(d_model, n_vocabulary)
        self._block = (
            model.model.layers[layer],
        )  # in a tuple: its weights are not this module's
        self._residual = torch.empty(0)
        share = presence(rows[:COUNTED_ROWS], n_vocabulary).mean(0)
        self._is_content = (share < CONTENT_SHARE).float()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Keep the residual of the pass that runs within the block."""
        handle = self._block[0].register_forward_hook(self._keep)
        try:
            yield
        finally:
            handle.remove()

    def loss(self, labels: torch.Tensor) -> torch.Tensor:
        """Cross-entropy with the content words to come, at every fourth position.

        `labels` (n_rows, n_tokens) are those of the pass; positions with none to come are out.
        """
        places = range(1, labels.shape[1] - 1, OUTLOOK_STRIDE)
        targets = torch.stack([self._words_after(labels, place) for place in places], dim=1)
        total = targets.sum(-1, keepdim=True)
        residual = self._residual[:, list(places)]
        log_p: torch.Tensor = self.head(self.norm(residual)).log_softmax(-1)
        losses = -(targets / total.clamp_min(1) * log_p).sum(-1)  # (n_rows, n_places)
        return losses.sum() / (total > 0).sum().clamp_min(1)

    def _keep(self, _module: torch.nn.Module, _args: object, output: torch.Tensor) -> None:
        self._residual = output

    def _words_after(self, labels: torch.Tensor, place: int) -> torch.Tensor:
        """How often each content word comes within reach of a place: (n_rows, n_vocabulary)."""
        window = labels[:, place + 1 : place + 1 + OUTLOOK_REACH]
        counts = torch.zeros(len(labels), len(self._is_content))
        counts.scatter_add_(1, window.clamp_min(0), (window >= 0).float())
        return counts * self._is_content


class Amplifier:
    """Makes what a text is about stronger at random, in half of the rows of a training step.

    x' = x + c (mean of x up to here - mean of all texts), with c drawn for each row from 0 to
    `most`, after one block drawn for each step. The words to predict stay the same, so later
    blocks learn to take a strong state for what it says and not to lose their grammar over it.
    """

    def __init__(
        self, model: LlamaForCausalLM, layers: Sequence[int], most: float, seed: int
    ) -> None:
        self._blocks = [model.model.layers[layer] for layer in layers]
        self._means: dict[int, torch.Tensor] = {}
        self._most = most
        self._share = 0.0
        self._random = Random(seed)
        self._generator = torch.Generator().manual_seed(seed)

    @contextmanager
    def amplifying(self, share: float) -> Iterator[None]:
        """Amplify after one block, in a share of the rows, in the pass that runs within."""
        if not self._blocks or not share:
            yield
            return
        self._share = share
        number = self._random.randrange(len(self._blocks))
        handle = self._blocks[number].register_forward_hook(
            lambda _module, _args, output: self._amplified(number, output)
        )
        try:
            yield
        finally:
            handle.remove()

    def _amplified(self, number: int, x: torch.Tensor) -> torch.Tensor:
        seen = x.detach()[:, 1:]  # BOS is like no other token
        usual = self._usual(number, seen.mean((0, 1)))
        counts = torch.arange(1, seen.shape[1] + 1)[:, None]
        special = (seen - usual).cumsum(1) / counts.clamp_min(FEW_TOKENS)
        draws = torch.rand(2, len(x), generator=self._generator)
        factor = self._most * draws[0] * (draws[1] < self._share)  # (n_rows,)
        return x + torch.nn.functional.pad(factor[:, None, None] * special, (0, 0, 1, 0))

    def _usual(self, number: int, mean: torch.Tensor) -> torch.Tensor:
        """The mean of the steps before, since this step's `mean` would tell of later tokens."""
        usual = self._means.get(number, torch.zeros_like(mean))
        known = self._means.get(number, mean)
        self._means[number] = MEAN_MEMORY * known + (1 - MEAN_MEMORY) * mean
        return usual
