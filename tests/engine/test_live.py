"""The text written again from as little as possible is the text written from nothing."""

import random

import numpy as np
import pytest
import torch
from tiny_models import D_MODEL, FAMILIES, N_LAYERS, open_tiny_model
from tiny_saes import random_sae

from microscope.core.features import Clamp, FeatureId
from microscope.core.prompts import Sampler
from microscope.engine.clamping import ClampSet
from microscope.engine.generation import write
from microscope.engine.interrupting import Interrupted
from microscope.engine.language_model import LanguageModel
from microscope.engine.live import Kl, LiveText, LiveWriter
from microscope.engine.unclamped import UnclampedText, kl

PROMPT = (9, 40, 77, 12, 5, 60)
GREEDY = Sampler(temperature=0)
WARM = Sampler(temperature=1.2, top_k=40, top_p=0.95, min_p=0.001, repetition_penalty=1.1)
SITES = (
    "blocks.0.hook_resid_pre",
    "blocks.0.hook_resid_post",
    "blocks.1.hook_resid_pre",
    "blocks.1.hook_resid_post",
    f"blocks.{N_LAYERS - 1}.hook_resid_post",
)
SAES = {
    site: random_sae(architecture, d_in=D_MODEL, name=site, seed=number)
    for number, (site, architecture) in enumerate(
        zip(SITES, ("standard", "jumprelu", "topk", "gated", "standard"), strict=True)
    )
}


def holding(*clamps):
    return ClampSet.of(
        [Clamp(FeatureId(site, index), value, mode) for site, index, value, mode in clamps],
        SAES,
    )


def written(steps):
    return [token.id for step in steps if not isinstance(step, Kl) for token in step.written]


@pytest.fixture
def open_model(tmp_path_factory):
    return lambda family: open_tiny_model(family, tmp_path_factory)


def drag(seed, n_ticks):
    """Clamp sets, samplers and seeds as a restless user makes them."""
    dice = random.Random(seed)
    sites = dice.sample(SITES[1:], 2)
    for tick in range(n_ticks):
        if tick % 5 == 4:
            sites = dice.sample(SITES, dice.randint(1, 3))
        clamps = [
            (
                site,
                dice.randrange(20),
                dice.uniform(-9, 9),
                dice.choice(("clamp", "add", "scale")),
            )
            for site in sites
        ]
        sampler = dice.choice((GREEDY, WARM, WARM))
        yield holding(*clamps), sampler, dice.choice((1, 2)), dice.choice((5, 9, 14))


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tick_gives_the_text_of_a_fresh_run(open_model, family):
    model, live = open_model(family), LiveWriter(open_model(family))
    for clamp_set, sampler, seed, n in drag(family, 12):
        fresh = [token.id for token in write(model, PROMPT, clamp_set, sampler, seed, n)]
        assert written(live.write(PROMPT, clamp_set, sampler, seed, n)) == fresh
    assert live._can_skip


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_a_drag_that_is_interrupted_anywhere_ends_with_the_right_text(open_model, family):
    model, live, dice = open_model(family), LiveWriter(open_model(family)), random.Random(3)
    for clamp_set, sampler, seed, n in drag("interrupted", 25):
        steps = live.write(PROMPT, clamp_set, sampler, seed, n)
        for _ in range(dice.randrange(4)):
            next(steps, None)
        steps.close()
    fresh = [token.id for token in write(model, PROMPT, clamp_set, sampler, seed, n)]
    assert written(live.write(PROMPT, clamp_set, sampler, seed, n)) == fresh


def test_a_pass_that_is_left_between_two_blocks_leaves_a_usable_trail(open_model):
    model, n_asked = open_model("llama"), 0
    stop_at = -1

    def should_stop():
        nonlocal n_asked
        n_asked += 1
        return n_asked == stop_at

    live = LiveWriter(model, should_stop)
    ticks = list(drag("left", 40))
    n_left = 0
    for tick, (clamp_set, sampler, seed, n) in enumerate(ticks):
        n_asked, stop_at = 0, 1 + tick % 11
        try:
            text = written(live.write(PROMPT, clamp_set, sampler, seed, n))
        except Interrupted:
            n_left += 1
            continue
        assert text == [t.id for t in write(model, PROMPT, clamp_set, sampler, seed, n)]
    assert n_left > 5
    stop_at = -1
    text = written(live.write(PROMPT, clamp_set, sampler, seed, n))
    assert text == [t.id for t in write(model, PROMPT, clamp_set, sampler, seed, n)]
    assert not any(m._forward_pre_hooks for m in model.network.modules())
    assert not any("forward" in block.__dict__ for block in model.anatomy.blocks)


def test_a_drag_that_never_rests_shows_a_text_at_least_every_second_time(open_model):
    model = open_model("llama")
    live = LiveWriter(model, lambda: True)
    shown = []
    for value in (1.0, 2.0, 3.0, 4.0):
        stretches = live.write(PROMPT, holding((SITES[1], 3, value, "add")), GREEDY, 1, 5)
        try:
            shown.append(bool(next(stretches).written))
        except Interrupted:
            shown.append(False)
    assert shown == [False, True, False, True]


def test_a_tick_runs_only_the_blocks_above_the_clamp(open_model, monkeypatch):
    model, live = open_model("gpt2"), LiveWriter(open_model("gpt2"))
    ran = []
    for number, block in enumerate(model.anatomy.blocks):
        first = next(iter(block.children()))
        monkeypatch.setattr(
            first,
            "forward",
            lambda *args, number=number, forward=first.forward, **kwargs: (
                ran.append(number) or forward(*args, **kwargs)
            ),
        )
    values = (2.0, 3.0, 4.0)
    for tick, value in enumerate(values):
        ran.clear()
        steps = live.write(PROMPT, holding((SITES[3], 2, value, "clamp")), GREEDY, 0, 8)
        next(steps)
        if tick == 0:
            assert ran == list(range(N_LAYERS))
        if tick == 2:  # the second tick also measured whether it may skip
            assert ran == list(range(2, N_LAYERS))
        list(steps)


def test_the_old_text_that_still_stands_comes_in_one_stretch(open_model):
    model = open_model("llama")
    live = LiveWriter(model)
    weak = holding((SITES[3], 2, 1e-6, "add"))
    whole = written(live.write(PROMPT, weak, WARM, 1, 12))
    again = list(live.write(PROMPT, holding((SITES[3], 2, 2e-6, "add")), WARM, 1, 12))
    assert written(again) == whole
    assert [len(step.written) for step in again] == [12]
    assert again[0].position == 0


def test_old_text_is_read_again_in_bounded_memory(open_model, monkeypatch):
    model = open_model("llama")
    live = LiveWriter(model)
    sizes = []
    step = LanguageModel.step

    def recorded(self, ids, cache=None, keep=1):
        sizes.append(keep)
        return step(self, ids, cache, keep)

    monkeypatch.setattr(LanguageModel, "step", recorded)
    monkeypatch.setattr("microscope.engine.live.DRAFT_BYTES", 4 * 4 * model.card.n_vocabulary)
    for value in (3.0, 3.0, 3.1):
        clamp_set = holding((SITES[1], 3, value, "add"))
        text = written(live.write(PROMPT, clamp_set, WARM, 1, 14))
        assert text == [t.id for t in write(model, PROMPT, clamp_set, WARM, 1, 14)]
    assert max(sizes) == 4


def test_another_prompt_starts_afresh(open_model):
    model, live = open_model("llama"), LiveWriter(open_model("llama"))
    clamp_set = holding((SITES[1], 2, 5.0, "clamp"))
    for ids in (PROMPT, PROMPT[:3], (*PROMPT, 4), (7, 8)):
        fresh = [token.id for token in write(model, ids, clamp_set, WARM, 1, 9)]
        assert written(live.write(ids, clamp_set, WARM, 1, 9)) == fresh


def test_the_context_s_end_is_the_end(open_model):
    model, live = open_model("gpt2"), LiveWriter(open_model("gpt2"))
    ids = [5 + n % 60 for n in range(model.context_length - 3)]
    for value in (1.0, 2.0):
        clamp_set = holding((SITES[1], 2, value, "clamp"))
        text = written(live.write(ids, clamp_set, WARM, 1, 50))
        assert text == [t.id for t in write(model, ids, clamp_set, WARM, 1, 50)]
        assert len(text) == 3
    full = [5 + n % 60 for n in range(model.context_length)]
    assert list(live.write(full, clamp_set, WARM, 1, 50)) == []


@pytest.mark.parametrize("family", ["gpt2", "gemma2"])
def test_kl_is_right_after_every_tick(open_model, family):
    model, live = open_model(family), LiveText(open_model(family))
    for clamp_set, sampler, seed, n in drag("kl", 8):
        steps = list(live.write(PROMPT, clamp_set, sampler, seed, n))
        batches = [step for step in steps if isinstance(step, Kl)]
        values = np.concatenate([batch.values for batch in batches])
        positions = np.cumsum([0, *(len(batch.values) for batch in batches)])
        assert [batch.position for batch in batches] == positions[:-1].tolist()
        rows = [row for step in steps if not isinstance(step, Kl) for row in step.logits]
        ids = torch.tensor([[*PROMPT, *written(steps)[:-1]]])
        plain = model.step(ids, keep=len(rows))[0]
        log_p = torch.stack(rows).double().log_softmax(-1)
        log_q = plain.double().log_softmax(-1)
        expected = (log_p.exp() * (log_p - log_q)).sum(-1)
        np.testing.assert_allclose(values, expected.numpy(), atol=1e-5, rtol=1e-3)


def test_logits_are_right_after_a_pass_that_failed_half_way(open_model, monkeypatch):
    model = open_model("llama")
    text, other = [*PROMPT, 7, 8], [*PROMPT, 3, 4]
    expected = UnclampedText(model).logits(other, len(PROMPT))
    reader = UnclampedText(model)
    reader.logits(text, len(PROMPT))

    def fail(*_args, **_kwargs):
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(model.anatomy.blocks[1], "forward", fail)
        with pytest.raises(MemoryError):
            reader.logits(other, len(PROMPT))
    for found, right in zip(reader.logits(other, len(PROMPT)), expected, strict=True):
        torch.testing.assert_close(found, right, rtol=1e-5, atol=1e-5)


def test_logits_of_a_text_that_begins_like_the_last_cost_its_rest(open_model, monkeypatch):
    model = open_model("llama")
    reader, fed = UnclampedText(model), []
    step = type(model).step

    def counted(self, ids, *args, **kwargs):
        fed.append(ids.shape[1])
        return step(self, ids, *args, **kwargs)

    monkeypatch.setattr(type(model), "step", counted)
    text = [*PROMPT, 3, 4, 5, 6]
    reader.logits(text, len(PROMPT))
    reader.logits(text, len(PROMPT))
    reader.logits([*PROMPT, 3, 4, 9, 9, 9], len(PROMPT))
    assert fed == [9, 2]
    other = reader.logits([8, *PROMPT[1:], 3], len(PROMPT))
    assert fed == [9, 2, 6]
    expected = step(model, torch.tensor([[8, *PROMPT[1:]]]))[0]
    assert float(kl(list(expected), other)[0]) < 1e-9
