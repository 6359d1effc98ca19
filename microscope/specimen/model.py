"""Trains the specimen's language model: a small Llama from transformers, one document a row."""

from __future__ import annotations

from contextlib import contextmanager
from random import Random
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from transformers import PreTrainedTokenizerFast

    from microscope.specimen.recipe import ModelRecipe

    Rows = Sequence[Sequence[int]]
    OnStep = Callable[[int, int], None]

IGNORED = -100
WARM_UP_SHARE = 0.05
FINAL_LEARNING_RATE_SHARE = 0.02
MAX_GRADIENT_NORM = 1.0
SHUFFLED_BATCHES = 64
COUNTED_ROWS = 1000
CONTENT_SHARE = 0.1
"""A word in more than this share of texts tells nothing of what a text is about."""
OUTLOOK_STRIDE = 4
OUTLOOK_REACH = 24


def token_rows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Each text as ids with one BOS before and one EOS after it, cut to the context."""
    limit = tokenizer.model_max_length
    encoded = tokenizer(list(texts))["input_ids"]
    return [[*ids, tokenizer.eos_token_id][:limit] for ids in encoded]


def new_model(recipe: ModelRecipe, tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A model with random weights."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.d_model,
        intermediate_size=recipe.d_mlp,
        num_hidden_layers=recipe.n_layers,
        num_attention_heads=recipe.n_heads,
        num_key_value_heads=recipe.n_heads,
        max_position_embeddings=recipe.context_length,
        tie_word_embeddings=True,
        initializer_range=recipe.initial_std,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        do_sample=True, bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id
    )
    return model


def train_model(
    model: LlamaForCausalLM, rows: Rows, recipe: ModelRecipe, seed: int, on_step: OnStep
) -> None:
    """Train in place with AdamW, a short warm-up and a linear decay; leaves it in eval mode."""
    optimizer = torch.optim.AdamW(_parameter_groups(model), fused=True, betas=(0.9, 0.98))
    batches = batches_of(rows, recipe.rows_per_batch, seed)
    outlook = Outlook(model, rows, recipe.outlook_layer)
    optimizer.add_param_group({"params": list(outlook.parameters()), "weight_decay": 0.0})
    model.train()
    for step in range(recipe.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate_at(step, recipe.n_steps)
        ids, labels = next(batches)
        with outlook.watching():
            logits = model(ids[:, :-1]).logits  # (n_rows, n_tokens - 1, n_vocabulary)
        loss = recipe.outlook_weight * outlook.loss(labels) + torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        on_step(step + 1, recipe.n_steps)
    model.eval()


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
        self._block = (model.model.layers[layer],)  # in a tuple: its weights are not this module's
        self._residual = torch.empty(0)
        document_counts = torch.zeros(n_vocabulary)
        for row in rows[:COUNTED_ROWS]:
            document_counts[list(set(row))] += 1
        share = document_counts / min(len(rows), COUNTED_ROWS)
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
        log_p = self.head(self.norm(residual)).log_softmax(-1)
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


def rate_at(step: int, n_steps: int) -> float:
    """The share of the full learning rate at a step: linear up, then linear down."""
    n_warm_up = max(1, round(n_steps * WARM_UP_SHARE))
    up = (step + 1) / n_warm_up
    down = (n_steps - step) / max(1, n_steps - n_warm_up)
    return max(FINAL_LEARNING_RATE_SHARE, min(up, down, 1.0))


def batches_of(
    rows: Rows, n_rows: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of rows of like length, as ids and labels padded on the right.

    A row attends to nothing on its right, so padding needs no mask; labels ignore it.
    """
    random = Random(seed)
    order: list[int] = []
    while True:
        while len(order) < n_rows * SHUFFLED_BATCHES:
            order += random.sample(range(len(rows)), len(rows))
        chunk = order[: n_rows * SHUFFLED_BATCHES]
        order = order[n_rows * SHUFFLED_BATCHES :]
        chunk.sort(key=lambda number: len(rows[number]))
        groups = [chunk[start : start + n_rows] for start in range(0, len(chunk), n_rows)]
        random.shuffle(groups)
        for group in groups:
            yield padded([rows[number] for number in group])


def padded(rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows as one matrix: ids (padded with 0) and labels (padded with `IGNORED`)."""
    width = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (width - len(row))] for row in rows])
    labels = torch.tensor([[*row, *[IGNORED] * (width - len(row))] for row in rows])
    return ids, labels  # both (n_rows, width)


@torch.inference_mode()
def held_out_loss(model: LlamaForCausalLM, rows: Rows) -> float:
    """Mean cross-entropy in nats for each token after BOS."""
    total, n_tokens = 0.0, 0
    for row in rows:
        ids = torch.tensor([row])
        logits = model(ids[:, :-1]).logits[0]
        total += float(torch.nn.functional.cross_entropy(logits, ids[0, 1:], reduction="sum"))
        n_tokens += len(row) - 1
    return total / n_tokens


def _parameter_groups(model: LlamaForCausalLM) -> list[dict[str, object]]:
    matrices = [weight for weight in model.parameters() if weight.ndim > 1]
    vectors = [weight for weight in model.parameters() if weight.ndim < 2]
    return [
        {"params": matrices, "weight_decay": 0.05},
        {"params": vectors, "weight_decay": 0.0},
    ]
