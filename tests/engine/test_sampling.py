import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from microscope.core.errors import GenerationStopped
from microscope.core.prompts import Sampler
from microscope.engine.sampling import (
    choose,
    draw,
    filtered,
    gumbel_noise,
    with_min_p,
    with_repetition_penalty,
    with_temperature,
    with_top_k,
    with_top_p,
)

N_VOCAB = 60
GREEDY = Sampler(temperature=0)
seeds = st.integers(0, 100_000)


def random_logits(seed, n_vocab=N_VOCAB, dtype=torch.float64):
    g = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(n_vocab, generator=g, dtype=torch.float64).to(dtype)


def theirs(warper, logits, ids=(0,)):
    return warper(torch.tensor([list(ids)]), logits.clone()[None])[0]


@given(seeds, st.integers(1, N_VOCAB + 5))
@settings(max_examples=30, deadline=None)
def test_top_k_is_that_of_transformers(seed, k):
    logits = random_logits(seed)
    assert torch.equal(with_top_k(logits, k), theirs(TopKLogitsWarper(k), logits))


@given(seeds, st.floats(0.01, 0.99))
@settings(max_examples=30, deadline=None)
def test_top_p_is_that_of_transformers(seed, p):
    logits = random_logits(seed)
    assert torch.equal(with_top_p(logits, p), theirs(TopPLogitsWarper(p), logits))


@pytest.mark.parametrize("sharpness", [3.0, 0.7, 0.1])  # few, many and all tokens are needed
@pytest.mark.parametrize("p", [0.3, 0.95, 0.9999])
def test_top_p_is_that_of_transformers_in_a_large_vocabulary(sharpness, p):
    logits = sharpness * random_logits(5, n_vocab=30_000)
    logits[::7] = -torch.inf  # as filters before it leave them
    assert torch.equal(with_top_p(logits, p), theirs(TopPLogitsWarper(p), logits))


@given(seeds, st.floats(0.001, 1))
@settings(max_examples=30, deadline=None)
def test_min_p_is_that_of_transformers(seed, p):
    logits = random_logits(seed)
    assert torch.equal(with_min_p(logits, p), theirs(MinPLogitsWarper(p), logits))


@given(seeds, st.floats(0.01, 10))
@settings(max_examples=30, deadline=None)
def test_temperature_is_that_of_transformers(seed, temperature):
    logits = random_logits(seed)
    expected = theirs(TemperatureLogitsWarper(temperature), logits)
    assert torch.equal(with_temperature(logits, temperature), expected)


@given(seeds, st.floats(0.1, 5), st.lists(st.integers(0, N_VOCAB - 1), min_size=1))
@settings(max_examples=30, deadline=None)
def test_the_repetition_penalty_is_that_of_transformers(seed, penalty, ids):
    logits = random_logits(seed, dtype=torch.float32)
    expected = theirs(RepetitionPenaltyLogitsProcessor(penalty), logits, ids)
    assert torch.equal(with_repetition_penalty(logits, ids, penalty), expected)


@given(
    seeds, st.floats(0.2, 3), st.integers(1, N_VOCAB), st.floats(0.05, 0.99), st.floats(0, 0.5)
)
@settings(max_examples=30, deadline=None)
def test_the_stack_is_that_of_transformers_in_its_order(seed, temperature, top_k, top_p, min_p):
    logits = random_logits(seed)
    expected = logits
    for warper in (
        TemperatureLogitsWarper(temperature),
        TopKLogitsWarper(top_k),
        TopPLogitsWarper(top_p),
        MinPLogitsWarper(min_p),
    ):
        expected = theirs(warper, expected)
    sampler = Sampler(temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p)
    assert torch.equal(filtered(logits, sampler), expected)


def test_every_neutral_setting_is_the_identity():
    logits, neutral = random_logits(0), Sampler()
    assert filtered(logits, neutral) is logits
    assert with_repetition_penalty(logits, [1, 2], neutral.repetition_penalty) is logits


def test_no_sampler_writes_to_its_argument():
    logits = random_logits(1)
    before = logits.clone()
    for changed in (
        with_repetition_penalty(logits, [1, 2], 2.0),
        filtered(logits, Sampler(temperature=0.5, top_k=9, top_p=0.8, min_p=0.1)),
    ):
        assert not torch.equal(changed, before)
    assert torch.equal(logits, before)


def test_the_penalty_reaches_tokens_of_the_prompt_and_only_those():
    logits = torch.tensor([2.0, -2.0, 2.0, -2.0])
    assert with_repetition_penalty(logits, [0, 1, 1], 2.0).tolist() == [1.0, -4.0, 2.0, -2.0]


def test_at_least_one_token_survives_the_narrowest_filters():
    sampler = Sampler(top_k=1, top_p=1e-12, min_p=1.0)
    for seed in range(20):
        kept = torch.isfinite(filtered(random_logits(seed), sampler))
        assert kept.nonzero().tolist() == [[int(random_logits(seed).argmax())]]


def test_among_equals_at_the_edge_of_top_p_the_lower_ids_stay():
    logits = torch.tensor([1.0, 5.0, 5.0, 5.0, 5.0])
    assert torch.isfinite(with_top_p(logits, 0.45)).tolist() == [
        False,
        True,
        True,
        False,
        False,
    ]


def test_temperature_zero_is_the_largest_penalised_logit():
    logits = torch.tensor([3.0, 2.9, 1.0])
    assert choose(logits, [], GREEDY, seed=0, position=0) == 0
    penalised = Sampler(temperature=0, repetition_penalty=2.0)
    assert choose(logits, [0], penalised, seed=0, position=0) == 1


def test_equal_logits_go_to_the_lower_id():
    logits = torch.tensor([1.0, 5.0, 5.0])
    assert choose(logits, [], GREEDY, seed=0, position=0) == 1


def test_the_noise_of_a_token_is_the_same_whichever_others_survive():
    everyone = gumbel_noise(7, 13, np.arange(1000))
    some = np.array([999, 3, 500])
    assert np.array_equal(gumbel_noise(7, 13, some), everyone[some])
    assert gumbel_noise(7, 13, np.array([3]))[0] == everyone[3]


def test_seed_position_and_token_each_change_the_noise():
    ids = np.arange(50)
    base = gumbel_noise(1, 2, ids)
    for other in (gumbel_noise(2, 2, ids), gumbel_noise(1, 3, ids), gumbel_noise(2, 1, ids)):
        assert not np.isin(other, base).any()
    assert len(set(base)) == 50


def test_the_noise_is_the_same_numbers_on_every_machine():
    """Recomputed with Python's integers from the definition of SplitMix64."""

    def mixed(z):
        z = (z + 0x9E3779B97F4A7C15) % 2**64
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
        return z ^ (z >> 31)

    for seed, position, token in ((0, 0, 0), (16, 40, 50_256), (-1, 7, 3), (2**70 + 5, 1, 9)):
        bits = mixed(mixed(mixed(mixed(seed % 2**64) ^ position) ^ token))
        uniform = (2 * (bits >> 12) + 1) / 2**53
        expected = -np.log(-np.log(uniform))
        actual = gumbel_noise(seed, position, np.array([token]))[0]
        assert actual == pytest.approx(expected, rel=1e-12)


@given(st.integers(-(2**80), 2**80), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_the_noise_is_always_finite(seed, position):
    assert np.isfinite(gumbel_noise(seed, position, np.arange(64))).all()


def test_the_noise_has_the_moments_of_gumbel_and_no_serial_correlation():
    noise = np.stack([gumbel_noise(5, position, np.arange(400)) for position in range(400)])
    assert noise.mean() == pytest.approx(np.euler_gamma, abs=0.02)
    assert noise.var() == pytest.approx(np.pi**2 / 6, abs=0.04)
    unit = (noise - noise.mean()) / noise.std()
    for neighbour in (unit[1:] * unit[:-1], unit[:, 1:] * unit[:, :-1]):
        assert abs(neighbour.mean()) < 0.015  # 6 standard errors


@pytest.mark.parametrize("along", ["positions", "seeds"])
def test_draws_have_the_frequencies_of_the_softmax(along):
    logits = torch.tensor([0.0, 1.0, 2.0, 0.5, -1.0, 1.5])
    n = 12_000
    places = ((3, i) for i in range(n)) if along == "positions" else ((i, 3) for i in range(n))
    counts = np.bincount([draw(logits, *place) for place in places], minlength=6)
    expected = n * logits.double().softmax(0).numpy()
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 20.5  # 5 degrees of freedom, p = 0.001


def test_draws_after_filters_have_the_frequencies_of_the_filtered_softmax():
    logits = torch.tensor([0.0, 1.0, 2.0, 0.5, -1.0, 1.5])
    sampler, n = Sampler(temperature=0.7, top_k=4, top_p=0.9), 8_000
    picks = [choose(logits, [], sampler, seed=1, position=i) for i in range(n)]
    expected = n * filtered(logits.double(), sampler).softmax(0).numpy()
    counts, alive = np.bincount(picks, minlength=6), expected > 0
    assert 1 < alive.sum() < 6
    assert not counts[~alive].any()
    assert ((counts - expected)[alive] ** 2 / expected[alive]).sum() < 16.3  # 3 dof, 0.001


def test_two_close_distributions_mostly_draw_the_same_token():
    logits = random_logits(3)
    nudged = logits + 0.02 * random_logits(4)
    pairs = [(draw(logits, 9, i), draw(nudged, 9, i)) for i in range(500)]
    shared = sum(a == b for a, b in pairs)
    total_variation = 0.5 * (logits.softmax(0) - nudged.softmax(0)).abs().sum().item()
    assert shared / 500 > 1 - 2 * total_variation - 0.05
    assert len({a for a, _ in pairs}) > 3


def test_float32_and_float64_logits_draw_the_same():
    logits = random_logits(5, dtype=torch.float32)
    sampler = Sampler(temperature=0.9, top_k=30)
    for position in range(50):
        assert choose(logits, [], sampler, 1, position) == choose(
            logits.double(), [], sampler, 1, position
        )


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("sampler", [GREEDY, Sampler()])
def test_logits_that_are_not_finite_stop_the_text_with_advice(value, sampler):
    logits = random_logits(0)
    logits[7] = value
    with pytest.raises(GenerationStopped, match="Lower the strength of the clamp"):
        choose(logits, [], sampler, seed=0, position=0)
