"""Looks at a model's folder without loading it: sizes from file headers, no torch.

Says what is damaged in the words that the user will read.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from microscope.core.errors import ModelUnreadable
from microscope.core.library import LocalModel, ModelShape
from microscope.storage.tensor_headers import DTYPE_NAMES, TensorHeader, tensor_headers

CONFIG = "config.json"
INDEX = "model.safetensors.index.json"
WEIGHTS = "model.safetensors"
MAX_JSON_BYTES = 1 << 26
MAX_NAME = 200
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def examine(folder: Path, source: str, name: str) -> LocalModel:
    """What is known of the model in a folder; a model that cannot be opened has a problem."""
    size_bytes = sum(path.stat().st_size for path in folder.glob("*") if path.is_file())
    facts = LocalModel(source=source, name=name, folder=str(folder), size_bytes=size_bytes)
    try:
        config = read_json(folder / CONFIG)
        architecture = _kind(folder, config)
        headers = _all_headers(folder)
    except ModelUnreadable as error:
        return msgspec.structs.replace(facts, problem=str(error))
    except OSError as error:
        problem = f"{folder} cannot be read ({error.strerror or error})."
        return msgspec.structs.replace(facts, problem=problem)
    return msgspec.structs.replace(
        facts,
        architecture=architecture,
        shape=shape_of(config),
        n_parameters=sum(header.n_numbers for header in headers),
        dtype=_main_dtype(headers),
    )


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        ModelUnreadable: it is missing, damaged, far too large or no object.
    """
    try:
        if not path.is_file():  # a pipe or a device might never end
            raise ValueError("no file, or no ordinary one")
        if path.stat().st_size > MAX_JSON_BYTES:
            raise ValueError("far too large for a settings file")
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelUnreadable(
            f"{path} cannot be read as JSON ({error}). Copy the file again."
        ) from error
    if not isinstance(content, dict):
        raise ModelUnreadable(f"{path} is not a JSON object. Copy the file again.")
    return content


def shape_of(config: dict[str, Any]) -> ModelShape:
    """The sizes that a configuration gives, under the names of the families in use."""
    text = config.get("text_config")
    inner = {**config, **text} if isinstance(text, dict) else config
    n_heads = _number(inner, "num_attention_heads", "n_head")
    d_model = _number(inner, "hidden_size", "n_embd", "d_model")
    return ModelShape(
        n_layers=_number(inner, "num_hidden_layers", "n_layer", "num_layers"),
        d_model=d_model,
        n_heads=n_heads,
        n_kv_heads=_number(inner, "num_key_value_heads") or n_heads,
        head_dim=_number(inner, "head_dim") or (d_model // n_heads if n_heads else 0),
        n_vocabulary=_number(inner, "vocab_size"),
    )


def _number(config: dict[str, Any], *names: str) -> int:
    found = (config.get(name) for name in names)
    return next((n for n in found if isinstance(n, int) and 0 < n < 1 << 31), 0)


def _kind(folder: Path, config: dict[str, Any]) -> str:
    kind = config.get("model_type")
    if not isinstance(kind, str):
        raise ModelUnreadable(
            f"{folder / CONFIG} names no model_type, so it does not describe a language model."
        )
    if config.get("is_encoder_decoder"):
        raise ModelUnreadable(
            f"{folder} holds an encoder-decoder model ({kind}); only decoder-only models can "
            "be opened."
        )
    return kind


def _all_headers(folder: Path) -> list[TensorHeader]:
    return [header for path in _weights(folder) for header in tensor_headers(path).values()]


def _weights(folder: Path) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        return _shards(folder)
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise ModelUnreadable(
            f"{folder} has its weights only as pickle files, which can run code when they are "
            "opened. Convert them to safetensors."
        )
    raise ModelUnreadable(
        f"{folder} has no weights. If a download was stopped, start it again."
    )


def _is_file_name(name: object) -> bool:
    """Whether it can be the name of a file in the same folder."""
    return isinstance(name, str) and Path(name).name == name and len(name) <= MAX_NAME


def _shards(folder: Path) -> list[Path]:
    weight_map = read_json(folder / INDEX).get("weight_map")
    listed = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not listed or not all(map(_is_file_name, listed)):
        raise ModelUnreadable(f"{folder / INDEX} lists no weight files. Copy the file again.")
    names = set(listed)
    missing = sorted(name for name in names if not (folder / name).is_file())
    if missing:
        raise ModelUnreadable(
            f"{folder} lacks {len(missing)} of its {len(names)} weight files, such as "
            f"{missing[0]}. Download the model again; what is there is kept."
        )
    return [folder / name for name in sorted(names)]


def _main_dtype(headers: list[TensorHeader]) -> str:
    """The dtype of most of the numbers."""
    sizes: Counter[str] = Counter()
    for header in headers:
        sizes[header.dtype] += header.n_numbers
    return DTYPE_NAMES.get(most := sizes.most_common(1)[0][0], most.lower()) if sizes else ""
