import io
import struct
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import CPU, rng

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes import named_tensors
from microscope.engine.saes.npz_file import array_names, opened


def header(text, version=(1, 0)):
    """The head of an array: what numpy puts before the numbers."""
    size = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + size + text.encode("latin1")


def npy(array):
    target = io.BytesIO()
    np.lib.format.write_array(target, array, allow_pickle=True)
    return target.getvalue()


def save(path, compression=zipfile.ZIP_STORED, **members):
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, content in members.items():
            file.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_float_kind_are_read(tmp_path, compression, dtype, order):
    array = np.asarray(rng().normal(size=(5, 3)), dtype, order=order)
    path = save(tmp_path / "a.npz", compression, w=npy(array))
    with opened(path, CPU) as file:
        read = file.read("w", 5, 3)
    path.write_bytes(b"")  # nothing depends on the file any more
    assert read.dtype == torch.float32
    assert np.array_equal(read.numpy(), array.astype(np.float32))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_a_large_array_is_the_same_by_way_of_a_file(
    tmp_path, monkeypatch, compression, dtype, order
):
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    array = np.asarray(rng().normal(size=(5, 3)), dtype, order=order)
    path = save(tmp_path / "a.npz", compression, w=npy(array))
    with opened(path, CPU) as file:
        matrix = file.matrix("w", 5, 3)
    path.unlink()
    assert np.array_equal(matrix.float().numpy(), array.astype(np.float32))


def test_without_room_for_a_file_a_large_array_is_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(named_tensors, "_SMALL_BYTES", 0)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=0))
    path = save(tmp_path / "a.npz", w=npy(np.ones((2, 3), np.float32)))
    with opened(path, CPU) as file:
        assert torch.equal(file.matrix("w", 2, 3), torch.ones(2, 3))


def test_later_versions_of_the_header_are_read(tmp_path):
    text = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n"
    path = save(tmp_path / "a.npz", w=header(text, (2, 0)) + np.ones(2, "<f4").tobytes())
    with opened(path, CPU) as file:
        assert file.read("w", 2).tolist() == [1, 1]


def shaped(shape, descr="'<f4'"):
    return header(f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no array at all",
        shaped("(2,)")[:20],
        shaped("(2,)"),  # no numbers behind it
        shaped("(2,)") + bytes(400),
        shaped("(1000000000000, 1000000)") + bytes(8),
        shaped("(-2,)") + bytes(8),
        shaped("(2,") + bytes(8),
        shaped("'two'") + bytes(8),
        shaped("(__import__('os').getcwd(),)") + bytes(8),
        shaped("(2,)", "'|O'") + bytes(16),
        shaped("(2,)", "[('a', '<f4')]") + bytes(16),
        header("[" * 3000, (2, 0)) + bytes(8),
        header("{}", (9, 9)) + bytes(8),
        npy(np.array([{"a": 1}], dtype=object)),
    ],
)
def test_an_array_that_is_not_what_it_claims_is_refused(tmp_path, content):
    path = save(tmp_path / "a.npz", w=content)
    with pytest.raises(SaeUnreadable, match=r"'w' in .*a\.npz"), opened(path, CPU) as file:
        file.read("w", 2)


def test_a_damaged_array_is_refused(tmp_path):
    path = save(tmp_path / "a.npz", w=npy(np.full(50, 1.5, np.float32)))
    content = bytearray(path.read_bytes())
    where = content.index(np.float32(1.5).tobytes() * 3)
    content[where] ^= 1  # the archive's checksum tells
    path.write_bytes(content)
    with pytest.raises(SaeUnreadable, match="damaged"), opened(path, CPU) as file:
        file.read("w", 50)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04" + bytes(50), b"\x93NUMPY"])
def test_a_file_that_is_no_archive_is_refused_by_name(tmp_path, content):
    path = tmp_path / "a.npz"
    path.write_bytes(content)
    assert array_names(path) == set()
    with pytest.raises(SaeUnreadable, match=r"a\.npz is not a whole zip"), opened(path, CPU):
        pass


def test_a_cut_archive_is_refused(tmp_path):
    path = save(tmp_path / "a.npz", w=npy(np.ones(500, np.float32)))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(SaeUnreadable, match=r"a\.npz"), opened(path, CPU):
        pass
