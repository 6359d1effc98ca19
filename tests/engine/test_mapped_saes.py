"""Large SAEs stay in their files: what is opened is not read, what is read is right."""

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_saes import random_sae, random_weights, save_saelens

import microscope.engine.saes.named_tensors as named_tensors
from microscope.core.errors import SaeUnreadable
from microscope.core.features import Clamp, FeatureId
from microscope.engine.clamping import ClampSet
from microscope.engine.saes.npz_file import opened as opened_npz
from microscope.engine.saes.pickle_file import opened as opened_pickle
from microscope.engine.saes.saelens import read
from microscope.engine.saes.tensor_file import opened

CPU = torch.device("cpu")
WEIGHTS = "sae_weights.safetensors"
MIB = 1 << 20
HALVES = [torch.bfloat16, torch.float16]


@pytest.fixture
def mapped(monkeypatch):
    """As if even tiny matrices were worth mapping."""
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)


def residuals(n_tokens=6):
    return 2 * torch.randn(n_tokens, 8, generator=torch.Generator().manual_seed(3))


def store_as(folder, dtype):
    tensors = load_file(folder / WEIGHTS)
    save_file({name: t.to(dtype) for name, t in tensors.items()}, str(folder / WEIGHTS))
    return {name: t.to(dtype).float() for name, t in tensors.items()}


@pytest.mark.parametrize("architecture", ["standard", "jumprelu", "gated", "topk"])
def test_a_mapped_sae_says_what_one_in_memory_says(tmp_path, architecture, mapped):
    save_saelens(tmp_path, architecture)
    x, sae, expected = residuals(), read(tmp_path, CPU), random_sae(architecture).folded()
    assert sae.w_enc.untyped_storage().nbytes() == 8 * 20 * 4
    torch.testing.assert_close(sae.encode(x), expected.encode(x))
    torch.testing.assert_close(sae.error(x), expected.error(x))
    few = torch.tensor([4, 11])
    torch.testing.assert_close(sae.encode_features(x, few), expected.encode(x)[:, few])


@pytest.mark.parametrize("dtype", HALVES)
def test_weights_stay_in_the_dtype_of_their_file_and_are_computed_in_float32(
    tmp_path, dtype, mapped
):
    save_saelens(tmp_path)
    w, x = store_as(tmp_path, dtype), residuals()
    sae = read(tmp_path, CPU)
    assert sae.w_enc.dtype == sae.w_dec.dtype == dtype
    f = torch.relu((x - w["b_dec"]) @ w["W_enc"] + w["b_enc"])
    lengths = w["W_dec"].norm(dim=1)
    assert sae.encode(x).dtype == torch.float32
    torch.testing.assert_close(sae.encode(x), f * lengths)
    torch.testing.assert_close(sae.error(x), x - f @ w["W_dec"] - w["b_dec"])
    few = torch.tensor([4, 11])
    chosen = sae.chosen(few)
    torch.testing.assert_close(chosen.rows, (w["W_dec"] / lengths[:, None])[few])
    torch.testing.assert_close(chosen.encode(sae.frame(x)), (f * lengths)[:, few])


@pytest.mark.parametrize("tensor", ["W_enc", "W_dec"])
def test_numbers_that_are_not_finite_are_told_when_they_are_met(tmp_path, tensor, mapped):
    weights = random_weights()
    weights[tensor][3, 4] = torch.nan  # a feature's only where W_dec is concerned
    save_saelens(tmp_path, extra={tensor: weights[tensor]})
    sae, x = read(tmp_path, CPU), residuals()
    part = {"W_enc": "encoder", "W_dec": "decoder"}[tensor]
    for use in (sae.encode, sae.error, lambda x: sae.strongest(x, 3)):
        with pytest.raises(SaeUnreadable, match=f"The {part} .* not finite") as refusal:
            use(x)
        assert str(tmp_path) in str(refusal.value)
    bad = torch.tensor([4 if tensor == "W_enc" else 3])
    with pytest.raises(SaeUnreadable, match=part):
        sae.encode_features(x, bad)
    assert torch.isfinite(sae.encode_features(x, bad + 5)).all()


def test_a_clamp_reads_the_held_feature_only(tmp_path, mapped):
    weights, x = random_weights(), residuals()[None]
    for tensor, others in (("W_enc", np.s_[:, :7]), ("W_dec", np.s_[:7])):
        weights[tensor][others] = torch.nan
    save_saelens(tmp_path, extra={name: weights[name] for name in ("W_enc", "W_dec")})
    sae = read(tmp_path, CPU)
    name = sae.card.name
    held = ClampSet.of([Clamp(FeatureId(name, 7), 3.0)], {name: sae})
    moved = held.edits[0].apply(x, torch.ones(1, 6, dtype=torch.bool))
    whole = random_sae().folded()
    expected = x + (3.0 - whole.encode(x)[..., [7]]) * whole.chosen(torch.tensor([7])).rows
    torch.testing.assert_close(moved, expected)


def test_a_number_that_overflows_is_not_blamed_on_the_sae(tmp_path, mapped):
    save_saelens(tmp_path)
    huge = torch.full((1, 8), 3e38)
    huge[0, ::2] *= -1
    assert not torch.isfinite(read(tmp_path, CPU).encode(1e3 * huge)).all()


def test_a_file_that_is_replaced_does_not_change_an_open_sae(tmp_path, mapped):
    save_saelens(tmp_path)
    x, sae = residuals(), read(tmp_path, CPU)
    before = sae.encode(x)
    (tmp_path / WEIGHTS).unlink()
    save_saelens(tmp_path, seed=1)
    torch.testing.assert_close(sae.encode(x), before)
    assert not torch.equal(read(tmp_path, CPU).encode(x), before)


# -- the other kinds of file ---------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_a_matrix_in_a_file_of_torch_is_mapped(tmp_path, dtype, mapped):
    w = torch.randn(6, 5).to(dtype)
    torch.save({"w": w}, tmp_path / "w.pt")
    with opened_pickle(tmp_path / "w.pt", CPU) as file:
        found = file.matrix("w", 6, 5)
    assert found.dtype == dtype
    assert torch.equal(found, w)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_array_in_an_archive_gets_a_file_of_its_own(tmp_path, save, mapped):
    w = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    save(tmp_path / "w.npz", w=w, turned=np.asfortranarray(w), wide=w.astype(np.float64))
    with opened_npz(tmp_path / "w.npz", CPU) as file:
        found = [file.matrix(name, 6, 5) for name in ("w", "turned", "wide")]
    for matrix in found:
        assert matrix.dtype == torch.float32
        assert np.array_equal(matrix.numpy(), w)


def test_without_room_for_such_a_file_the_array_is_read_into_memory(
    tmp_path, mapped, monkeypatch
):
    w = np.ones((6, 5), np.float32)
    np.savez(tmp_path / "w.npz", w=w)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("U", (), {"free": 0}))
    with opened_npz(tmp_path / "w.npz", CPU) as file:
        assert np.array_equal(file.matrix("w", 6, 5).numpy(), w)


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.zeros(6, 4), "shape"),
        (torch.zeros(6, 5, dtype=torch.int32), "I32"),
        (None, "no tensor 'w'"),
    ],
)
def test_a_matrix_is_checked_as_far_as_its_header_goes(tmp_path, tensor, words, mapped):
    save_file(
        {"w" if tensor is not None else "v": torch.zeros(1) if tensor is None else tensor},
        str(tmp_path / "w.safetensors"),
    )
    with (
        pytest.raises(SaeUnreadable, match=words),
        opened(tmp_path / "w.safetensors", CPU) as file,
    ):
        file.matrix("w", 6, 5)


# -- memory ----------------------------------------------------------------------------------


def save_large_sae(folder, d_in=256, n_features=16_384):
    """A float32 SAE of 32 MiB whose matrices are holes in the file."""
    save_saelens(folder)
    settings = json.loads((folder / "cfg.json").read_text())
    settings |= {"d_in": d_in, "d_sae": n_features}
    (folder / "cfg.json").write_text(json.dumps(settings))
    shapes = {"W_enc": [d_in, n_features], "W_dec": [n_features, d_in]}
    shapes |= {"b_enc": [n_features], "b_dec": [d_in]}
    header, end = {}, 0
    for name, shape in shapes.items():
        size = 4 * int(np.prod(shape))
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
    return 2 * 4 * d_in * n_features


def resident_bytes():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
def test_memory_grows_by_what_was_touched(tmp_path):
    n_saes = 12
    n_bytes = max(save_large_sae(tmp_path / str(n)) for n in range(n_saes))
    x = torch.ones(2, 256)
    read(tmp_path / "0", CPU).encode_features(x, torch.tensor([3]))  # whatever is loaded once
    before = resident_bytes()
    saes = [read(tmp_path / str(n), CPU) for n in range(1, n_saes)]
    opened_all = resident_bytes()
    assert opened_all - before < 8 * MIB < n_saes * n_bytes / 20
    saes[4].strongest(x, 3)
    read_one = resident_bytes()
    assert 0.4 * n_bytes < read_one - opened_all < 2 * n_bytes
