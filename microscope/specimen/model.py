"""Trains the specimen's language model: a small Llama from transformers, one document a row."""

from __future__ import annotations

from contextlib import ExitStack
from random import Random
from typing import TYPE_CHECKING

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from microscope.specimen.lessons import Amplifier, Outlook, place_words

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


def token_rows(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> list[list[int]]:
    """Each text as ids with one BOS before and one EOS after it, cut to the context."""
    limit = tokenizer.model_max_length
    encoded = tokenizer(list(texts))["input_ids"]
    return [[*ids, tokenizer.eos_token_id][:limit] for ids in encoded]


def new_model(
    recipe: ModelRecipe, tokenizer: PreTrainedTokenizerFast, seed: int
) -> LlamaForCausalLM:
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
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        do_sample=True, bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id
    )
    return model


def train_model(
    model: LlamaForCausalLM, rows: Rows, recipe: ModelRecipe, seed: int, on_step: OnStep
) -> None:
    """Train in place with AdamW, a short warm-up and a linear decay; leaves it in eval mode."""
    place_words(model, rows, recipe.placed_share, recipe.placed_std)
    optimizer = torch.optim.AdamW(_parameter_groups(model), fused=True, betas=(0.9, 0.98))
    batches = batches_of(rows, recipe.rows_per_batch, seed)
    outlook = Outlook(model, rows, recipe.outlook_layer)
    optimizer.add_param_group({"params": list(outlook.parameters()), "weight_decay": 0.0})
    amplifier = Amplifier(model, recipe.amplified_layers, recipe.most_amplified, seed)
    model.train()
    for step in range(recipe.n_steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * rate_at(step, recipe.n_steps)
        ids, labels = next(batches)
        with ExitStack() as stack:
            stack.enter_context(outlook.watching())
            is_late = step >= recipe.amplified_from * recipe.n_steps
            stack.enter_context(amplifier.amplifying(recipe.amplified_rows * is_late))
            logits = model(ids[:, :-1]).logits  # (n_rows, n_tokens - 1, n_vocabulary)
        loss = recipe.outlook_weight * outlook.loss(labels) + torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED
        )
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad()
        on_step(step + 1, recipe.n_steps)
    model.eval()  # type: ignore[no-untyped-call]


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
