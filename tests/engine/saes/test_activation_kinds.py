import numpy as np
import pytest
import torch
from reference import rng

from microscope.engine.saes.activations import AbsTopK, GroupMax, Identity, ReLU, TopK


def pre(shape=(3, 2, 12)):
    return torch.from_numpy(rng(1).normal(size=shape))


def test_the_largest_by_size_keep_their_sign():
    found = AbsTopK(2)(torch.tensor([[1.0, -4.0, 2.0, -1.5], [0.5, 3.0, -0.1, 0.2]]))
    assert found.tolist() == [[0, -4, 2, 0], [0.5, 3, 0, 0]]


def test_the_largest_of_each_group_is_kept_if_it_is_above_zero():
    found = GroupMax(2)(torch.tensor([[1.0, 4.0, 2.0, -1.5, -3.0, -1.0]]))
    assert found.tolist() == [[0, 4, 0, 0, 0, 0]]
    assert GroupMax(3)(torch.tensor([[1.0, 4.0, 2.0, 1.5, -3.0, 5.0]])).tolist() == [
        [0, 4, 2, 0, 0, 5]
    ]


def test_as_many_features_are_on_as_asked_for_whatever_the_batch():
    for activation in (AbsTopK(4), GroupMax(4)):
        kept = activation(pre())
        assert kept.shape == pre().shape
        assert int((kept != 0).sum(-1).max()) <= 4
        where = kept != 0
        assert torch.equal(kept[where], pre()[where])


def test_everything_kept_is_no_change():
    assert torch.equal(AbsTopK(12)(pre()), pre())
    assert torch.equal(GroupMax(12)(pre()), torch.relu(pre()))
    assert torch.equal(Identity()(pre()), pre())


def test_an_identity_commutes_with_lengths_and_with_a_choice_of_features():
    norms = torch.linspace(0.5, 2, 12, dtype=torch.float64)
    folded = Identity().folded(norms)
    assert torch.equal(folded(pre() * norms), Identity()(pre()) * norms)
    assert torch.equal(Identity().at(torch.tensor([3]))(pre()[..., [3]]), pre()[..., [3]])


@pytest.mark.parametrize("activation", [AbsTopK(3), GroupMax(3)])
def test_where_all_features_matter_none_can_be_cut_out_or_rescaled(activation):
    assert not activation.is_local
    assert activation.folded(torch.ones(12)) is None
    with pytest.raises(TypeError, match="needs every feature"):
        activation.at(torch.tensor([0]))


def test_only_activations_below_zero_count_as_signed():
    kinds = (ReLU(), TopK(3), GroupMax(3), Identity(), AbsTopK(3))
    for activation in kinds:
        assert activation.is_signed == bool((activation(pre()) < 0).any())


def test_an_absolute_top_k_is_that_of_a_sort():
    p = pre((5, 12))
    kept = AbsTopK(3)(p).numpy()
    for row, out in zip(p.numpy(), kept, strict=True):
        largest = np.argsort(-np.abs(row))[:3]
        assert set(np.flatnonzero(out)) == set(largest)
