"""Other programs of the field, and how near to theirs our numbers have to be.

They are installed by `dev.py test --interop` only; elsewhere these tests are skipped. They are
imported with warnings let through, since theirs are none of ours to mend.
"""

import importlib
import importlib.util
import warnings

import pytest
import torch

TOLERANCE = 1e-5


def peer(name):
    """The other program, or a skipped module; one that is there and broken is an error."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(
            f"{name} is not installed; run packaging/dev.py test --interop",
            allow_module_level=True,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


def residuals(d_in=16, n_tokens=9, seed=7):
    """Rows such as a model gives: one is far larger than the others, one is all but 0."""
    generator = torch.Generator().manual_seed(seed)
    x = 1.5 * torch.randn(n_tokens, d_in, generator=generator) + 0.3
    x[0] *= 30
    x[1] *= 1e-3
    return x


def numbers(*shape, seed=0, scale=1.0):
    """Random float32."""
    generator = torch.Generator().manual_seed(seed + 1000 * len(shape) + shape[-1])
    return scale * torch.randn(*shape, generator=generator)


def decoder_rows(n_features, d_out):
    """Rows whose lengths are far from 1, so that a forgotten factor shows."""
    rows = torch.nn.functional.normalize(numbers(n_features, d_out, seed=5))
    return rows * (0.3 + numbers(n_features, 1, seed=6).abs())


def assert_same(ours, theirs):
    """Equal up to float32, relative to the largest number of each row (at least 1)."""
    assert ours.shape == theirs.shape
    size = theirs.detach().abs().amax(dim=-1, keepdim=True).clamp_min(1)
    assert ((ours - theirs.detach()).abs() / size).max() < TOLERANCE


def assert_same_features(ours, theirs):
    """The same activations, and the same features on."""
    assert 0.02 < (theirs != 0).float().mean() < 0.98, "too few features are on, or off"
    assert_same(ours, theirs)
    assert torch.equal(ours != 0, theirs != 0)
