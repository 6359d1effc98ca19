"""Model folders with real headers and hardly any weights, and a cache like the hub's."""

import json
import math
import struct

COMMIT = "b" * 40
SIZES = {"F32": 4, "BF16": 2, "F16": 2, "I8": 1}


def safetensors_bytes(tensors):
    """A file of zeros; `tensors` are `{name: (dtype, shape)}`."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape) in tensors.items():
        start, end = end, end + SIZES[dtype] * math.prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


CONFIG = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 10,
}
TENSORS = {"embed": ("BF16", [10, 8]), "layer": ("BF16", [3, 4, 5]), "norm": ("F32", [8])}


def save_model(folder, config=CONFIG, tensors=TENSORS):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    return folder


def save_in_cache(cache, repository, commit=COMMIT, ref="main"):
    """An empty snapshot of a repository, as the hub's client lays it out."""
    root = cache / f"models--{repository.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (root / "blobs").mkdir(exist_ok=True)
    if ref:
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / ref).write_text(commit)
    return snapshot
