"""The parts of the specimen's training, on models of a few numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from microscope.specimen.lessons import Amplifier, Outlook, place_words
from microscope.specimen.model import (
    IGNORED,
    batches_of,
    held_out_loss,
    new_model,
    padded,
    rate_at,
    token_rows,
    train_model,
)
from microscope.specimen.pages import concept_flags, label_names
from microscope.specimen.recipe import ModelRecipe, SaeRecipe
from microscope.specimen.saes import measure, train_sae
from microscope.specimen.text import Document, Span, documents
from microscope.specimen.tokenizer import train_tokenizer

RECIPE = ModelRecipe(
    d_model=32,
    n_layers=2,
    d_mlp=48,
    n_vocabulary=500,
    n_steps=12,
    outlook_layer=0,
    amplified_layers=(0,),
    amplified_from=0.0,
)


@pytest.fixture(scope="module")
def texts():
    return [document.text for document in documents(120, seed=5)]


@pytest.fixture(scope="module")
def tokenizer(texts):
    return train_tokenizer(texts, RECIPE.n_vocabulary, RECIPE.context_length)


@pytest.fixture(scope="module")
def rows(tokenizer, texts):
    return token_rows(tokenizer, texts)


@pytest.fixture(autouse=True)
def _own_random_numbers():
    with torch.random.fork_rng(devices=[]):
        yield


def _trained(tokenizer, rows, seed=0):
    model = new_model(RECIPE, tokenizer, seed)
    train_model(model, rows, RECIPE, seed, lambda _done, _total: None)
    return model


def test_the_same_seed_trains_the_same_model(tokenizer, rows):
    first, second = _trained(tokenizer, rows), _trained(tokenizer, rows)
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, second.state_dict()[name]), name


def test_training_lowers_the_loss_and_leaves_no_hooks(tokenizer, rows):
    before = held_out_loss(new_model(RECIPE, tokenizer, 0), rows[:20])
    model = _trained(tokenizer, rows)
    assert held_out_loss(model, rows[:20]) < before - 0.3
    assert not model.training
    assert not any(module._forward_hooks for module in model.modules())


def test_rows_start_with_bos_and_end_with_eos(tokenizer, rows):
    assert all(row[0] == tokenizer.bos_token_id for row in rows)
    assert all(row[-1] == tokenizer.eos_token_id for row in rows)


def test_batches_go_through_every_row_once_before_any_twice(rows):
    batches = batches_of(rows[:64], n_rows=8, seed=0)
    # A chunk of 64 batches is 512 rows, which is each of 64 rows eight times.
    seen = [tuple(row[row != IGNORED].tolist()) for _ in range(64) for row in next(batches)[1]]
    assert sorted(seen) == sorted(tuple(row) for row in rows[:64] for _ in range(8))


def test_padding_is_ignored_by_the_loss():
    ids, labels = padded([[1, 2, 3], [4]])
    assert ids.tolist() == [[1, 2, 3], [4, 0, 0]]
    assert labels.tolist() == [[1, 2, 3], [4, IGNORED, IGNORED]]


def test_the_learning_rate_rises_and_falls():
    rates = [rate_at(step, 100) for step in range(100)]
    assert rates[0] < rates[4] == max(rates) == 1.0
    assert rates[-1] < 0.05


def test_words_of_the_same_texts_start_near_each_other(tokenizer):
    texts = ["cat purrs milk"] * 30 + ["ship wave sail"] * 30 + ["one two three"] * 340
    rows = token_rows(tokenizer, texts)
    model = new_model(RECIPE, tokenizer, 0)
    place_words(model, rows, share=0.5, std=0.5)
    first = model.get_input_embeddings().weight[rows[0]]
    other = model.get_input_embeddings().weight[rows[30]]
    shared = set(rows[0]) & set(rows[30])
    own = [place for place, token in enumerate(rows[0]) if token not in shared]
    apart = [place for place, token in enumerate(rows[30]) if token not in shared]
    cosine = torch.nn.functional.cosine_similarity
    near = cosine(first[own[0]], first[own[-1]], dim=0)
    far = cosine(first[own[0]], other[apart[-1]], dim=0)
    assert near > far + 0.3


def test_the_outlook_counts_words_to_come_within_reach(tokenizer, rows):
    model = new_model(RECIPE, tokenizer, 0)
    outlook = Outlook(model, [[1, 7], *[[1, 8]] * 99], layer=0)
    labels = torch.tensor([[0, 7, 9, 7, 8, IGNORED]])
    counts = outlook._words_after(labels, place=1)[0]
    # Token 8 is in almost every row and tells nothing; the 7 at place 1 is not to come.
    assert counts[[7, 9, 8]].tolist() == [1.0, 1.0, 0.0]


def test_the_outlook_asks_nothing_of_the_words_before(tokenizer, rows):
    model = new_model(RECIPE, tokenizer, 0)
    outlook = Outlook(model, rows, layer=0)
    ids, labels = padded(rows[:4])
    with outlook.watching():
        model(ids[:, :-1])
    loss = outlook.loss(labels)
    assert torch.isfinite(loss)
    loss.backward()
    assert model.model.layers[0].mlp.down_proj.weight.grad.abs().sum() > 0
    assert model.model.layers[1].mlp.down_proj.weight.grad is None


def test_amplification_changes_the_pass_and_looks_at_no_later_token(tokenizer, rows):
    model = new_model(RECIPE, tokenizer, 0)
    ids = torch.tensor([rows[0][:20]])
    changed = ids.clone()
    changed[0, -1] = 7

    def logits(each):
        amplifier = Amplifier(model, (0,), 2.0, seed=3)
        with amplifier.amplifying(1.0), torch.no_grad():
            return model(each).logits[0]

    torch.testing.assert_close(logits(ids)[:-1], logits(changed)[:-1])
    assert (logits(ids)[1:] - model(ids).logits[0, 1:]).abs().max() > 1e-3
    assert (logits(ids)[0] - model(ids).logits[0, 0]).abs().max() < 1e-5  # BOS is left alone


def test_no_share_of_rows_means_no_amplification(tokenizer, rows):
    model = new_model(RECIPE, tokenizer, 0)
    ids = torch.tensor([rows[0]])
    with Amplifier(model, (0,), 2.0, seed=3).amplifying(0.0), torch.no_grad():
        assert torch.equal(model(ids).logits, model(ids).logits)
        assert not model.model.layers[0]._forward_hooks


def test_an_sae_recovers_sparse_directions():
    generator = torch.Generator().manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(24, 16, generator=generator), dim=1)
    is_on = torch.rand(4000, 24, generator=generator) < 0.06
    x = (is_on * torch.rand(4000, 24, generator=generator).add(0.5)) @ directions + 3.0
    recipe = SaeRecipe(
        n_features=48, k=2, tokens_per_batch=256, n_steps=400, learning_rate=1e-2
    )
    sae = train_sae(x, recipe, 0, lambda _done, _total: None)
    assert measure(sae, x).explained_variance > 0.8
    assert measure(sae, x).l0 < 4
    best = (sae.w_dec @ directions.T).amax(0)
    assert (best > 0.9).float().mean() > 0.8


def test_the_same_seed_trains_the_same_sae():
    x = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    recipe = replace(SaeRecipe(), n_features=16, k=2, tokens_per_batch=32, n_steps=20)
    first, second = (train_sae(x, recipe, 4, lambda _done, _total: None) for _ in range(2))
    assert torch.equal(first.w_enc, second.w_enc)
    assert torch.equal(first.threshold, second.threshold)


def test_flags_mark_the_tokens_of_a_span():
    document = Document("A cat sat.", (Span(2, 5, "cats"), Span(2, 10, "cats", "passage")))
    offsets = [(0, 1), (1, 3), (3, 5), (5, 9), (9, 10), (10, 10)]
    flags = concept_flags(document, offsets, label_names())
    names = label_names()
    assert flags[:, names.index("cats")].tolist() == [0, 1, 1, 0, 0, 0]
    assert flags[:, names.index("about cats")].tolist() == [0, 1, 1, 1, 1, 0]
    assert flags.sum() == 6
