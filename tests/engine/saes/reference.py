"""Random weights, and the comparison of an SAE with formulas computed in float64."""

import numpy as np
import torch

CPU = torch.device("cpu")
D_IN, N_FEATURES, N_TOKENS = 8, 20, 7


def rng(seed=0):
    return np.random.default_rng(seed)


def random_weights(d_in=D_IN, n_features=N_FEATURES, d_out=None, seed=0):
    """Float32 arrays in the orientation `(d_in, n)` and `(n, d_out)`; rows of any length."""
    g = rng(seed)
    d_out = d_out or d_in
    weights = {
        "w_enc": g.normal(size=(d_in, n_features)),
        "b_enc": 0.3 * g.normal(size=n_features),
        "w_dec": g.normal(size=(n_features, d_out)) * g.uniform(0.3, 2, (n_features, 1)),
        "b_dec": 0.4 * g.normal(size=d_out),
        "threshold": g.uniform(0.2, 1.5, n_features),
        "skip": 0.5 * g.normal(size=(d_in, d_out)),
    }
    return {name: array.astype(np.float32) for name, array in weights.items()}


def doubles(weights):
    return {name: np.asarray(array, np.float64) for name, array in weights.items()}


def tokens(d_in=D_IN, seed=5, size=1.5):
    return (size * rng(seed).normal(size=(N_TOKENS, d_in))).astype(np.float32)


def relu(p):
    return np.maximum(p, 0)


def jumprelu(p, threshold):
    return relu(p) * (p > threshold)


def top_k(h, k):
    """`relu(h)` for the `k` largest of every row, one row at a time."""
    kept = np.zeros_like(h)
    for row, out in zip(h, kept, strict=True):
        chosen = sorted(range(len(row)), key=lambda i: row[i])[-k:]
        out[chosen] = relu(row[chosen])
    return kept


def assert_close(found, expected):
    found = np.asarray(found, np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


def assert_matches(sae, x, f, x_hat, w_dec):
    """Activations and reconstructions of `x` are those of the formulas.

    `f` are the raw activations `(n_tokens, n_features)` that go with the rows `w_dec`. A
    folded SAE's activations are longer by the rows' lengths, and its own rows have length 1.
    """
    assert 0.1 < (f != 0).mean() < 0.9, "the formulas switch too few features on, or too many"
    lengths = np.linalg.norm(np.asarray(w_dec, np.float64), axis=1)
    encoded = sae.encode(torch.from_numpy(x))
    if sae.card.is_folded:
        assert_close(encoded.numpy() / lengths, f)
    else:
        assert_close(encoded.numpy(), f)
    assert_close(sae.decode(encoded, torch.from_numpy(x)).numpy(), x_hat)
