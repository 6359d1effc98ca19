"""Arithmetic with matrices of any dtype and orientation, against plain float64."""

import gc

import pytest
import torch

import microscope.engine.saes.matrices as matrices
from microscope.engine.saes.matrices import (
    columns_of,
    is_finite,
    product,
    row_lengths,
    rows_of,
    weighted_rows,
)
from microscope.engine.saes.residency import Residency, limit_bytes

META = torch.device("meta")
EVERY_DTYPE = pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
EITHER_WAY = pytest.mark.parametrize("is_turned", [False, True])


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """So that these matrices take several blocks, the last of them not full."""
    monkeypatch.setattr(matrices, "_BLOCK", 64)


def random_matrix(rows, columns, dtype, is_turned, seed=0):
    g = torch.Generator().manual_seed(seed)
    if is_turned:
        return torch.randn(columns, rows, generator=g).to(dtype).T
    return torch.randn(rows, columns, generator=g).to(dtype)


def near(found, expected):
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


@EVERY_DTYPE
@EITHER_WAY
def test_products_are_those_of_the_widened_matrix(dtype, is_turned):
    matrix, x = random_matrix(12, 31, dtype, is_turned), torch.randn(2, 3, 12)
    near(product(x, matrix), x.double() @ matrix.double())
    near(product(x[0, 0], matrix), x[0, 0].double() @ matrix.double())


@EVERY_DTYPE
@EITHER_WAY
@pytest.mark.parametrize("density", [0.0, 0.01, 0.5])
def test_rows_are_added_up_with_their_weights_and_scales(dtype, is_turned, density):
    matrix = random_matrix(200, 7, dtype, is_turned)
    amounts = torch.randn(2, 3, 200) * (torch.rand(2, 3, 200) < density)
    near(weighted_rows(amounts, matrix), amounts.double() @ matrix.double())
    scale = torch.rand(200) + 0.5
    expected = (amounts.double() * scale) @ matrix.double()
    near(weighted_rows(amounts, matrix, scale), expected)


@EVERY_DTYPE
@EITHER_WAY
def test_rows_columns_and_lengths_are_those_of_the_widened_matrix(dtype, is_turned):
    matrix, few = random_matrix(40, 9, dtype, is_turned), torch.tensor([3, 0, 3, 8])
    near(rows_of(matrix, few), matrix.double()[few])
    near(columns_of(matrix, few), matrix.double()[:, few])
    near(row_lengths(matrix, few.device), matrix.double().norm(dim=1))


@EVERY_DTYPE
@EITHER_WAY
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_one_number_that_is_not_finite_is_found_in_any_block(dtype, is_turned, bad):
    for place in ((0, 0), (39, 8), (20, 4)):
        matrix = random_matrix(40, 9, dtype, is_turned)
        assert is_finite(matrix)
        matrix[place] = bad
        assert not is_finite(matrix)


def test_what_is_only_used_in_part_is_read_only_there():
    matrix = random_matrix(200, 7, torch.bfloat16, is_turned=False)
    amounts = torch.zeros(1, 200)
    amounts[0, 5] = 2.0
    expected = 2 * matrix[5].float()
    matrix[6:] = torch.nan
    torch.testing.assert_close(weighted_rows(amounts, matrix)[0], expected)


# -- copies on another device ------------------------------------------------------------


def resident(limit):
    return Residency(lambda _device, _held: limit)


def test_a_matrix_on_its_own_device_is_used_as_it_is():
    matrix = torch.ones(3, 3)
    assert resident(0).on(matrix, matrix.device) is matrix


def test_a_matrix_is_moved_once():
    copies, matrix = resident(1000), torch.ones(3, 3)
    moved = copies.on(matrix, META)
    assert moved.device == META
    assert copies.on(matrix, META) is moved
    assert copies.held_bytes(META) == 36


def test_the_copy_that_was_not_used_for_longest_goes_first():
    copies = resident(80)
    first, second, third = (torch.ones(3, 3) for _ in range(3))
    kept = copies.on(first, META)
    gone = copies.on(second, META)
    assert copies.on(first, META) is kept
    copies.on(third, META)
    assert copies.held_bytes(META) == 72
    assert copies.on(first, META) is kept
    assert copies.on(second, META) is not gone


def test_a_matrix_larger_than_the_limit_is_moved_all_the_same():
    copies = resident(10)
    copies.on(torch.ones(2), META)
    matrix = torch.ones(3, 3)
    assert copies.on(matrix, META).shape == (3, 3)
    assert copies.held_bytes(META) == 36


def test_the_copy_of_a_matrix_that_is_gone_is_gone():
    copies, matrix = resident(1000), torch.ones(3, 3)
    copies.on(matrix, META)
    del matrix
    gc.collect()
    assert copies.held_bytes(META) == 0


def test_a_device_that_does_not_tell_its_memory_has_a_fixed_limit():
    assert limit_bytes(META, 0) == limit_bytes(META, 10**9) > 10**9
