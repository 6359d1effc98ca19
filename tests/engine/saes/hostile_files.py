"""Files that are made to harm: each function overwrites a good file with one of them."""

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import torch

TERABYTE = 1 << 40


class Harmful:
    """Unpickled without care, it makes a file."""

    def __init__(self, sentinel):
        self.sentinel = str(sentinel)

    def __reduce__(self):
        return open, (self.sentinel, "w")


# Any file


def empty(path):
    path.write_bytes(b"")


def cut_in_half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def another_magic(path):
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + path.read_bytes()[8:])


def a_web_page(path):
    path.write_text("<!doctype html><title>404</title>" * 40)


def a_terabyte_of_nothing(path):
    """More bytes after the end, which take no room on the disk."""
    with path.open("r+b") as file:
        file.truncate(TERABYTE)


# Safetensors


def with_header(header, body=b"\0" * 64, length=None):
    """A safetensors file with any header, which may lie about its length."""
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()

    def write(path):
        declared = len(raw) if length is None else length
        path.write_bytes(struct.pack("<Q", declared) + raw + body)

    return write


def one_tensor(**changes):
    return {"W_enc": {"dtype": "F32", "shape": [4, 4], "data_offsets": [0, 64]} | changes}


SAFETENSORS = {
    "header of 2^60 bytes": with_header(b"{}", length=1 << 60),
    "header of 2^64-1 bytes": with_header(b"{}", length=(1 << 64) - 1),
    "header longer than the file": with_header(b"{}", length=4096),
    "header that is no JSON": with_header(b"W_enc = 1"),
    "header that is a list": with_header(b"[]"),
    "header nested very deep": with_header(b'{"a":' * 50_000),
    "header that is not UTF-8": with_header(b'{"\xff\xfe": 1}'),
    "header with a name twice": with_header(
        json.dumps(one_tensor()).encode()[:-1] + b"," + json.dumps(one_tensor()).encode()[1:]
    ),
    "shape of 10^24 numbers": with_header(one_tensor(shape=[10**12, 10**12])),
    "shape that overflows to a small size": with_header(one_tensor(shape=[1 << 62, 4])),
    "negative shape": with_header(one_tensor(shape=[-4, -4])),
    "shape in words": with_header(one_tensor(shape=["four", 4])),
    "offsets past the end": with_header(one_tensor(data_offsets=[0, 1 << 50])),
    "offsets that run backwards": with_header(one_tensor(data_offsets=[64, 0])),
    "offset before the beginning": with_header(one_tensor(data_offsets=[-64, 0])),
    "dtype that does not exist": with_header(one_tensor(dtype="F7")),
    "two tensors in one place": with_header(one_tensor() | {"b": one_tensor()["W_enc"]}),
    "names that lead elsewhere": with_header({"../../W_enc": one_tensor()["W_enc"]}),
    "a name of a million letters": with_header({"x" * 1_000_000: one_tensor()["W_enc"]}),
}


# Archives of numpy arrays


def npy(header, body=b"\0" * 64, version=(1, 0)):
    """An array with any header."""
    raw = header if isinstance(header, bytes) else repr(header).encode()
    return b"\x93NUMPY" + bytes(version) + struct.pack("<H", len(raw)) + raw + body


def array(**changes):
    return npy({"descr": "<f4", "fortran_order": False, "shape": (4, 4)} | changes)


def pickled_array(sentinel):
    target = io.BytesIO()
    np.save(target, np.array([Harmful(sentinel)], dtype=object), allow_pickle=True)
    return target.getvalue()


def with_encoder(content, compression=zipfile.ZIP_STORED):
    """Replace the encoder in an archive; `content` may be made from a sentinel's path."""

    def write(path):
        with zipfile.ZipFile(path) as old:
            members = {info.filename: old.read(info) for info in old.infolist()}
        encoder = content(path.parent / "sentinel") if callable(content) else content
        with zipfile.ZipFile(path, "w", compression) as new:
            for name, kept in members.items():
                new.writestr(name, encoder if name == "W_enc.npy" else kept)

    return write


def bomb(path):
    """Half a gigabyte of zeros in half a megabyte."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
        new.open("W_enc.npy", "w", force_zip64=True) as member,
    ):
        member.write(array(shape=(1 << 27, 1))[:-64])
        for _ in range(512):
            member.write(b"\0" * (1 << 20))
    with zipfile.ZipFile(path, "a") as more:
        more.writestr("W_dec.npy", array())


def declared_bomb(path):
    """Members whose directory claims a terabyte each."""
    raw = bytearray(path.read_bytes())
    at = raw.find(b"PK\x01\x02")
    while at >= 0:
        raw[at + 24 : at + 28] = b"\xfe\xff\xff\xff"  # the size once unpacked
        at = raw.find(b"PK\x01\x02", at + 4)
    path.write_bytes(raw)


def many_members(path):
    with zipfile.ZipFile(path, "a") as more:
        for number in range(20_000):
            more.writestr(f"{number}.npy", b"")


def leads_elsewhere(path):
    with zipfile.ZipFile(path, "w") as new:
        for name in ("../../W_enc.npy", "/tmp/W_dec.npy", "W_enc.npy", "W_dec.npy"):
            new.writestr(name, array())


def set_flag(path):
    """Mark every member as encrypted."""
    raw = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = raw.find(magic)
        while at >= 0:
            raw[at + offset] |= 1
            at = raw.find(magic, at + 4)
    path.write_bytes(raw)


NPZ = {
    "array of 10^12 numbers": with_encoder(array(shape=(10**6, 10**6))),
    "array of 10^40 numbers": with_encoder(array(shape=(10**20, 10**20))),
    "array of negative size": with_encoder(array(shape=(-4, -4))),
    "array without dimensions": with_encoder(array(shape=())),
    "array of texts": with_encoder(array(descr="<U16", shape=(1, 1))),
    "array of records": with_encoder(array(descr=[("a", "<f4"), ("b", "<f4")], shape=(2, 4))),
    "array of pickled objects": with_encoder(pickled_array),
    "array of pickled objects by its header alone": with_encoder(array(descr="|O")),
    "header that is a program": with_encoder(npy(b"__import__('os').mkdir('sentinel')")),
    "header nested very deep": with_encoder(npy(b"(" * 9000)),
    "header that is no literal": with_encoder(npy(b"{'descr': '<f4', 'shape': (4, 4")),
    "array of a version to come": with_encoder(npy({}, version=(9, 9))),
    "a picture in an array's place": with_encoder(b"\x89PNG\r\n\x1a\n" + b"\0" * 99),
    "a zip bomb": bomb,
    "a zip directory that claims terabytes": declared_bomb,
    "twenty thousand members": many_members,
    "members that lead elsewhere": leads_elsewhere,
    "encrypted members": set_flag,
}


# Files of torch.save


def saved(contents):
    """Overwrite with what torch.save makes of `contents(good, sentinel)`."""

    def write(path):
        good = torch.load(path, weights_only=True)
        torch.save(contents(good, path.parent / "sentinel"), path)

    return write


def members_changed(change):
    """Replace each member's bytes by `change(name, bytes)`; None leaves it out."""

    def write(path):
        with zipfile.ZipFile(path) as old:
            members = [(info.filename, old.read(info)) for info in old.infolist()]
        with zipfile.ZipFile(path, "w") as new:
            for name, content in members:
                changed = change(name, content)
                if changed is not None:
                    new.writestr(name, changed)

    return write


def pickle_replaced(raw):
    return members_changed(lambda name, old: raw if name.endswith("/data.pkl") else old)


def old_form(path):
    good = torch.load(path, weights_only=True)
    good["harm"] = Harmful(path.parent / "sentinel")
    torch.save(good, path, _use_new_zipfile_serialization=False)


def plain_pickle(path):
    path.write_bytes(pickle.dumps(Harmful(path.parent / "sentinel")))


def with_entry(make):
    """The good dictionary with one more entry."""
    return saved(lambda good, sentinel: good | {"encoder.weight": make(good, sentinel)})


def storage_of_a_terabyte(path):
    """The number of a tensor's numbers raised in the pickle, far beyond what is stored."""

    def change(name, raw):
        if not name.endswith("/data.pkl"):
            return raw
        at = raw.index(b"M\x00\x05")  # BININT2 1280 = 32 * 40
        return raw[:at] + b"J\x00\x00\x00\x7f" + raw[at + 3 :]

    members_changed(change)(path)


def program(path):
    """A pickle of a whole module, which names classes."""
    torch.save(torch.nn.Linear(4, 4), path)


PICKLES = {
    "an entry that would run code": saved(lambda g, s: g | {"harm": Harmful(s)}),
    "a key that would run code": saved(lambda g, s: g | {(Harmful(s),): 1}),
    "a tensor's place taken by code": with_entry(lambda _g, s: Harmful(s)),
    "a plain pickle that would run code": plain_pickle,
    "the old form with code in it": old_form,
    "a whole module": program,
    "a list": saved(lambda good, _s: list(good.values())),
    "a tensor of 2^40 numbers by its strides": with_entry(
        lambda _g, _s: torch.ones(1).expand(1 << 20, 1 << 20)
    ),
    "a sparse tensor": with_entry(lambda g, _s: g["encoder.weight"].to_sparse()),
    "a tensor of complex numbers": with_entry(lambda g, _s: g["encoder.weight"].cfloat()),
    "a tensor on no device": with_entry(lambda _g, _s: torch.ones(40, 32, device="meta")),
    "a number in a tensor's place": with_entry(lambda _g, _s: 7),
    "a storage of terabytes": storage_of_a_terabyte,
    "a pickle cut short": members_changed(lambda n, c: c[:30] if "data.pkl" in n else c),
    "a pickle of noise": pickle_replaced(b"\xff" * 99),
    "a pickle nested very deep": pickle_replaced(b"\x80\x02" + b"(" * 1_000_000 + b"."),
    "a pickle of eight megabytes": pickle_replaced(b"\x80\x02N." + b"\0" * (1 << 23)),
    "a text of 2^63 letters": pickle_replaced(b"\x80\x04\x8d" + b"\xff" * 7 + b"\x7fa."),
    "no pickle": members_changed(lambda n, c: None if n.endswith("data.pkl") else c),
    "numbers cut short": members_changed(lambda n, c: c[:8] if "/data/" in n else c),
    "no numbers": members_changed(lambda n, c: None if "/data/" in n else c),
    "a zip directory that claims terabytes": declared_bomb,
}
