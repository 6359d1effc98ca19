import io
import pickle
import zipfile

import numpy as np
import pytest
import torch
from reference import CPU

from microscope.core.errors import SaeUnreadable
from microscope.engine.saes import archive
from microscope.engine.saes.loading import find_saes, open_sae
from microscope.engine.saes.pickle_file import opened, words_in


class Harmful:
    """Unpickled by the usual unpickler, it would make a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


def save(path, contents, **options):
    torch.save(contents, path, **options)
    return path


def refusal(path):
    with pytest.raises(SaeUnreadable) as caught, opened(path, CPU):
        pass
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_tensors_come_as_float32_copies_and_the_rest_by_kind(tmp_path):
    path = save(
        tmp_path / "a.pt",
        {
            "rows": torch.arange(6.0, dtype=torch.float64).reshape(2, 3),
            "turned": torch.arange(6.0).reshape(2, 3).T,
            "half": torch.tensor([1.5], dtype=torch.bfloat16),
            "k": torch.tensor(7),
            "theta": 0.25,
            "word": "ReLU",
            "below": {"k": 3, 5: "left out"},
        },
    )
    with opened(path, CPU) as file:
        assert file.names == {"rows", "turned", "half", "k"}
        assert file.shape("turned", 2) == (3, 2)
        rows, turned = file.read("rows", 2, 3), file.read("turned", 3, 2)
        assert (rows.dtype, file.read("half", 1).item()) == (torch.float32, 1.5)
        assert (file.number("k"), file.number("theta"), file.number("rows")) == (7, 0.25, None)
        assert (file.text("word"), file.text("k")) == ("ReLU", None)
        assert file.inside("below").number("k") == 3
        assert file.inside("word") is None
    path.write_bytes(b"")  # nothing depends on the file any more
    torch.testing.assert_close(rows, turned.T)


def test_names_in_a_file_are_known_without_unpickling_it(tmp_path):
    path = tmp_path / "a.pt"
    save(path, {"pre_bias": torch.ones(2), "harm": Harmful(tmp_path / "made")})
    assert "pre_bias" in words_in(path)
    assert not (tmp_path / "made").exists()


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path):
    path = save(tmp_path / "a.pt", {"w": torch.ones(2), "harm": Harmful(tmp_path / "made")})
    assert "run code" in refusal(path)
    assert not (tmp_path / "made").exists()


def test_a_plain_pickle_and_the_old_form_are_refused_with_what_to_do(tmp_path):
    plain = tmp_path / "plain.pt"
    plain.write_bytes(pickle.dumps(Harmful(tmp_path / "made")))
    old = save(tmp_path / "old.pt", {"w": torch.ones(2)}, _use_new_zipfile_serialization=False)
    for path in (plain, old):
        assert "torch.save" in refusal(path)
        assert find_saes(str(path)) == []
        with pytest.raises(SaeUnreadable, match=r"torch\.save"):
            open_sae(str(path), model=None)
    assert not (tmp_path / "made").exists()


def rewritten(path, change, compression=zipfile.ZIP_STORED):
    """The archive with each member's bytes replaced by `change(name, bytes)`; None drops it."""
    with zipfile.ZipFile(path) as old:
        members = [(name, old.read(name)) for name in old.namelist()]
    with zipfile.ZipFile(path, "w", compression) as new:
        for name, content in members:
            changed = change(name, content)
            if changed is not None:
                new.writestr(name, changed)
    return path


def empty(_path):
    return b""


def cut(path):
    return path.read_bytes()[: path.stat().st_size // 2]


def without_pickle(path):
    rewritten(path, lambda name, content: None if name.endswith("data.pkl") else content)
    return path.read_bytes()


def cut_pickle(path):
    rewritten(path, lambda name, content: content[:20] if "data.pkl" in name else content)
    return path.read_bytes()


def noise_for_a_pickle(path):
    rewritten(path, lambda name, content: b"\xff" * 40 if "data.pkl" in name else content)
    return path.read_bytes()


def huge_pickle(path):
    rewritten(path, lambda name, content: b"\0" * (1 << 23) if "data.pkl" in name else content)
    return path.read_bytes()


def without_numbers(path):
    rewritten(path, lambda name, content: content[:4] if "/data/" in name else content)
    return path.read_bytes()


def compressed(path):
    rewritten(path, lambda name, content: content, zipfile.ZIP_DEFLATED)
    return path.read_bytes()


def torchscript(path):
    with zipfile.ZipFile(path, "a") as archive_file:
        archive_file.writestr("a/constants.pkl", b"")
    return path.read_bytes()


@pytest.mark.parametrize(
    "damaged",
    [
        empty,
        cut,
        without_pickle,
        cut_pickle,
        noise_for_a_pickle,
        huge_pickle,
        without_numbers,
        compressed,
        torchscript,
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path, damaged):
    path = save(tmp_path / "a.pt", {"w": torch.ones(64)})
    path.write_bytes(damaged(path))
    with pytest.raises(SaeUnreadable, match=r"a\.pt"), opened(path, CPU) as file:
        file.read("w", 64)
    words_in(path)  # and says nothing worse


@pytest.mark.parametrize("contents", [torch.ones(3), [torch.ones(3)], 7, None])
def test_a_file_without_a_dictionary_is_refused(tmp_path, contents):
    assert "dictionary" in refusal(save(tmp_path / "a.pt", contents))


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (torch.ones(1).expand(1 << 40), "claims more numbers"),
        (torch.eye(4).to_sparse(), "not a plain dense one"),
        (torch.ones(3, dtype=torch.int32), "int32"),
        (torch.tensor([1.0, torch.nan]), "not finite"),
        (torch.zeros(2, 0), "ask for"),
    ],
)
def test_a_tensor_that_cannot_be_used_is_refused_by_name(tmp_path, tensor, words):
    path = save(tmp_path / "a.pt", {"w": tensor})
    with opened(path, CPU) as file, pytest.raises(SaeUnreadable, match=words) as caught:
        file.read("w", *(tensor.shape if tensor.numel() else (2,)))
    assert "'w'" in str(caught.value)


def bomb(n_bytes):
    """A zip archive of which far more comes out than goes in."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/data.pkl", b"\0" * n_bytes)
    return target.getvalue()


@pytest.mark.parametrize("name", ["a.pt", "a.npz"])
def test_an_archive_that_would_grow_beyond_measure_is_refused(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(bomb(1 << 27))
    with pytest.raises(SaeUnreadable, match="claims to hold"):
        archive.members(path)
    assert find_saes(str(tmp_path)) == []


def test_names_that_lead_elsewhere_are_only_names(tmp_path):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("../../W_enc.npy", b"")
        file.writestr("/etc/W_dec.npy", b"")
    before = sorted(tmp_path.rglob("*"))
    assert archive.names(path) == {"../../W_enc.npy", "/etc/W_dec.npy"}
    assert find_saes(str(path)) == []
    assert sorted(tmp_path.rglob("*")) == before


def test_a_large_random_tensor_is_read_bit_by_bit(tmp_path):
    numbers = np.random.default_rng(0).normal(size=(300, 70)).astype(np.float32)
    path = save(tmp_path / "a.pt", {"w": torch.from_numpy(numbers)})
    with opened(path, CPU) as file:
        assert np.array_equal(file.read("w", 300, 70).numpy(), numbers)
