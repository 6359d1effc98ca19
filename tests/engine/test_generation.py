import dataclasses
from contextlib import closing

import numpy as np
import pytest
import torch
from tiny_models import D_MODEL, tiny_model
from tiny_saes import random_sae

from microscope.core.errors import GenerationStopped, SamplerRejected
from microscope.core.features import Clamp, FeatureId
from microscope.core.prompts import Sampler
from microscope.engine.clamping import ClampSet, clamped, editable_positions
from microscope.engine.generation import Written, write
from microscope.engine.language_model import LanguageModel
from microscope.engine.live import Kl, LiveText
from microscope.engine.sampling import choose

PROMPT = (9, 40, 77, 12, 5, 60)
GREEDY = Sampler(temperature=0)
WARM = Sampler(temperature=1.3, top_k=40, top_p=0.95, min_p=0.001, repetition_penalty=1.2)
VARIED = ("gpt2", "gpt_neox", "llama", "qwen3", "gemma2", "gemma3", "mistral", "phi")


@pytest.fixture(scope="module")
def open_model(tmp_path_factory):
    models = {}

    def opened(family):
        if family not in models:
            models[family] = LanguageModel.open(str(tiny_model(family, tmp_path_factory)))
        return models[family]

    return opened


@pytest.fixture
def gpt2(open_model):
    return open_model("gpt2")


def steering(strength=12.0):
    saes = {
        site: random_sae(architecture, d_in=D_MODEL, name=site)
        for site, architecture in (
            ("blocks.0.hook_resid_post", "topk"),
            ("blocks.2.hook_resid_pre", "jumprelu"),
        )
    }
    modes = ("clamp", "scale")
    clamps = [
        Clamp(FeatureId(site, index), strength, mode)
        for site, mode in zip(saes, modes, strict=True)
        for index in (3, 8)
    ]
    return ClampSet.of(clamps, saes)


def write_with_kl(model, *arguments):
    """A text by the live writer, from nothing: each token, and KL in groups."""
    for step in LiveText(model).write(*arguments):
        if isinstance(step, Kl):
            yield step
        else:
            yield from step.written


def ids_of(steps):
    return [step.id for step in steps if isinstance(step, Written)]


def all_logits(model, ids, clamp_set):
    """Logits after every token of one pass over the whole text, without a cache."""
    rows = torch.tensor([list(ids)])
    editable = editable_positions(rows, model.special_ids)
    with clamped(model.anatomy, clamp_set, editable):
        return model.step(rows, keep=0)[0]


def rewritten(model, clamp_set, sampler, seed, n):
    """The text by the plainest means: everything is computed anew for every token."""
    ids = list(PROMPT)
    for _ in range(n):
        logits = all_logits(model, ids, clamp_set)[-1]
        ids.append(choose(logits, ids, sampler, seed, len(ids)))
        if ids[-1] in model.eos_ids:
            break
    return ids[len(PROMPT) :]


def hooks_on(model):
    return [
        hook
        for module in model.network.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]


@pytest.mark.parametrize("family", VARIED)
def test_cached_text_equals_recomputation_token_by_token(open_model, family):
    model, clamp_set, texts = open_model(family), steering(), []
    for clamps in (clamp_set, ClampSet()):
        for sampler in (WARM, GREEDY):
            text = ids_of(write(model, PROMPT, clamps, sampler, 3, 16))
            assert text == rewritten(model, clamps, sampler, 3, 16)
            texts.append(tuple(text))
    assert len(set(texts)) == 4


@pytest.mark.parametrize("family", VARIED)
def test_greedy_text_without_clamps_is_that_of_transformers(open_model, family):
    model = open_model(family)
    expected = model.network.generate(
        torch.tensor([PROMPT]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        do_sample=False,
        max_new_tokens=20,
        pad_token_id=0,
    )
    text = ids_of(write(model, PROMPT, ClampSet(), GREEDY, 0, 20))
    assert text == expected[0, len(PROMPT) :].tolist()


def test_greedy_text_with_a_penalty_is_that_of_transformers(gpt2):
    expected = gpt2.network.generate(
        torch.tensor([PROMPT]),
        attention_mask=torch.ones(1, len(PROMPT), dtype=torch.long),
        do_sample=False,
        max_new_tokens=20,
        repetition_penalty=1.4,
        pad_token_id=0,
    )
    sampler = Sampler(temperature=0, repetition_penalty=1.4)
    text = ids_of(write(gpt2, PROMPT, ClampSet(), sampler, 0, 20))
    assert text == expected[0, len(PROMPT) :].tolist()
    assert text != ids_of(write(gpt2, PROMPT, ClampSet(), GREEDY, 0, 20))


def test_probabilities_are_those_of_the_steered_model_before_the_sampler(gpt2):
    clamp_set = steering()
    steps = list(write(gpt2, PROMPT, clamp_set, WARM, 1, 12))
    logits = all_logits(gpt2, (*PROMPT, *ids_of(steps)), clamp_set)
    p = logits.double().softmax(-1)[len(PROMPT) - 1 : -1]
    expected = [p[row, step.id].item() for row, step in enumerate(steps)]
    assert [step.probability for step in steps] == pytest.approx(expected, rel=1e-3)


def test_the_same_seed_writes_the_same_and_another_does_not(gpt2):
    def text(seed):
        return ids_of(write(gpt2, PROMPT, ClampSet(), Sampler(), seed, 12))

    assert text(4) == text(4)
    assert text(4) != text(5)


def test_a_clamp_too_weak_to_matter_leaves_every_draw_as_it_was(gpt2):
    plain = ids_of(write(gpt2, PROMPT, ClampSet(), Sampler(), 8, 16))
    saes = {"s": random_sae(d_in=D_MODEL, name="s", site="blocks.1.hook_resid_post")}
    weak = ClampSet.of([Clamp(FeatureId("s", 3), 1e-6, "add")], saes)
    assert ids_of(write(gpt2, PROMPT, weak, Sampler(), 8, 16)) == plain
    strong = ClampSet.of([Clamp(FeatureId("s", 3), 60.0, "add")], saes)
    assert ids_of(write(gpt2, PROMPT, strong, Sampler(), 8, 16)) != plain


def test_text_ends_with_the_end_token(gpt2):
    text = ids_of(write(gpt2, PROMPT, ClampSet(), GREEDY, 0, 20))
    ending = text[4]
    stopping = dataclasses.replace(gpt2, eos_ids=frozenset({ending}))
    written = ids_of(write(stopping, PROMPT, ClampSet(), GREEDY, 0, 20))
    assert written == text[: text.index(ending) + 1]


def test_text_ends_where_it_is_told_or_where_the_context_ends(gpt2):
    assert ids_of(write(gpt2, PROMPT, ClampSet(), GREEDY, 0, 0)) == []
    assert len(ids_of(write(gpt2, PROMPT, ClampSet(), GREEDY, 0, 3))) == 3
    context = gpt2.card.context_length
    long_prompt = (PROMPT * context)[: context - 3]
    steps = list(write_with_kl(gpt2, long_prompt, steering(), GREEDY, 0, 50))
    assert len(ids_of(steps)) == 3
    full_prompt = (PROMPT * context)[:context]
    assert list(write_with_kl(gpt2, full_prompt, steering(), GREEDY, 0, 50)) == []


def test_a_prompt_of_one_token_is_enough(gpt2):
    steps = list(write_with_kl(gpt2, PROMPT[:1], steering(), WARM, 0, 5))
    assert ids_of(steps) == ids_of(write(gpt2, PROMPT[:1], steering(), WARM, 0, 5))
    assert len(ids_of(steps)) == 5


@pytest.mark.parametrize("family", ["gpt2", "gemma3"])
def test_kl_equals_a_direct_computation_on_the_steered_text(open_model, family):
    model, clamp_set = open_model(family), steering(8.0)
    steps = list(write_with_kl(model, PROMPT, clamp_set, WARM, 2, 19))
    text = ids_of(steps)
    rows = slice(len(PROMPT) - 1, -1)
    log_p, log_q = (
        all_logits(model, (*PROMPT, *text), clamps)[rows].double().log_softmax(-1)
        for clamps in (clamp_set, ClampSet())
    )
    expected = (log_p.exp() * (log_p - log_q)).sum(-1).numpy()
    batches = [step for step in steps if isinstance(step, Kl)]
    values = np.concatenate([batch.values for batch in batches])
    assert len(values) == len(text)
    assert values.dtype == np.float32
    assert [batch.position for batch in batches] == list(range(0, len(text), 8))
    assert (values >= 0).all()
    assert values.max() > 0.01
    np.testing.assert_allclose(values, expected, rtol=1e-3, atol=1e-5)


def test_kl_follows_its_tokens_in_groups_and_at_the_end(gpt2):
    steps = list(write_with_kl(gpt2, PROMPT, steering(), WARM, 2, 19))
    kinds = "".join("t" if isinstance(step, Written) else "k" for step in steps)
    assert kinds == "ttttttttk" * 2 + "tttk"


def test_measuring_kl_does_not_change_the_text(gpt2):
    plain = list(write(gpt2, PROMPT, steering(), WARM, 2, 19))
    measured = write_with_kl(gpt2, PROMPT, steering(), WARM, 2, 19)
    assert [step for step in measured if isinstance(step, Written)] == plain


def test_without_clamps_the_kl_is_zero_but_for_rounding(gpt2):
    steps = write_with_kl(gpt2, PROMPT, ClampSet(), WARM, 2, 10)
    values = np.concatenate([step.values for step in steps if isinstance(step, Kl)])
    assert values.max() < 1e-6


def test_between_two_tokens_the_model_is_free_and_torch_in_its_usual_mode(gpt2):
    hooks = hooks_on(gpt2)
    with closing(write_with_kl(gpt2, PROMPT, steering(), WARM, 2, 12)) as steps:
        for _ in steps:
            assert hooks_on(gpt2) == hooks
            assert not torch.is_inference_mode_enabled()
            assert torch.is_grad_enabled()


def test_two_texts_written_in_turn_do_not_disturb_each_other(gpt2):
    alone = [
        ids_of(write(gpt2, PROMPT, clamps, WARM, 2, 10)) for clamps in (steering(), ClampSet())
    ]
    steered = write(gpt2, PROMPT, steering(), WARM, 2, 10)
    baseline = write(gpt2, PROMPT, ClampSet(), WARM, 2, 10)
    pairs = list(zip(steered, baseline, strict=True))
    assert [[step.id for step in stream] for stream in zip(*pairs, strict=True)] == alone


def test_an_abandoned_text_leaves_nothing_behind(gpt2):
    hooks = hooks_on(gpt2)
    steps = write_with_kl(gpt2, PROMPT, steering(), WARM, 2, 12)
    next(steps)
    steps.close()
    assert hooks_on(gpt2) == hooks


def test_a_clamp_beyond_all_bounds_stops_with_advice_and_the_model_stays_usable(gpt2):
    before = ids_of(write(gpt2, PROMPT, ClampSet(), GREEDY, 0, 5))
    hooks = hooks_on(gpt2)
    with pytest.raises(GenerationStopped, match="Lower the strength"):
        list(write(gpt2, PROMPT, steering(1e38), GREEDY, 0, 5))
    assert hooks_on(gpt2) == hooks
    assert ids_of(write(gpt2, PROMPT, ClampSet(), GREEDY, 0, 5)) == before


def test_a_sampler_outside_its_range_is_refused(gpt2):
    with pytest.raises(SamplerRejected):
        next(write(gpt2, PROMPT, ClampSet(), Sampler(temperature=-1), 0, 5))


def test_special_tokens_in_the_prompt_are_not_edited(gpt2):
    (special,) = sorted(gpt2.special_ids)[:1]
    prompt = (9, special, special, special)
    with_clamp = next(write(gpt2, prompt, steering(), GREEDY, 0, 1))
    without = next(write(gpt2, prompt, ClampSet(), GREEDY, 0, 1))
    assert with_clamp == without
