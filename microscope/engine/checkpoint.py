"""The files of a model, found and checked before anything is built from them.

Reads JSON and safetensors headers only. Weights in pickle files are refused: opening one
would run whatever code it holds.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError
from safetensors import SafetensorError, safe_open

from microscope.core.errors import ModelUnreadable
from microscope.engine.plain_json import read_plain

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")
_SHARD = re.compile(r"[\w.-]{1,200}\.safetensors", re.ASCII)
_TEXTS = frozenset({".json", ".jinja", ".txt", ".model", ".tiktoken", ".yaml"})
_MAX_TEXT_BYTES = 1 << 28
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "spiece.model",
    "tekken.json",
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder that has passed the checks of this module."""

    name: str
    folder: Path
    n_tensors: int


def find_checkpoint(source: str) -> Checkpoint:
    """Find and check the files behind a folder's path or a cached hub id.

    Raises:
        ModelUnreadable: no such folder, or a file of it is missing, damaged or a pickle.
    """
    folder = _folder_of(source)
    _check_entries(folder)
    config = _read_json(_require_config(folder))
    _refuse_other_kinds(folder, config)
    n_tensors = sum(_count_tensors(path) for path in _weight_files(folder))
    _check_depth(folder, config, n_tensors)
    if not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise ModelUnreadable(
            f"{folder} has no tokenizer (tokenizer.json or the like). Copy the tokenizer's "
            "files from where the model comes from into this folder."
        )
    is_path = Path(source).expanduser().is_dir()
    return Checkpoint(folder.resolve().name if is_path else source, folder, n_tensors)


def _folder_of(source: str) -> Path:
    try:
        path = Path(source).expanduser()
        if path.is_dir():
            return path
        is_else = path.exists()
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelUnreadable(f"{source!r} is no path to a folder.") from error
    if is_else:
        raise ModelUnreadable(f"{path} is a file. Give the folder that holds the model.")
    if not _HUB_ID.fullmatch(source):
        raise ModelUnreadable(f"There is no folder {source!r}. Check the path to the model.")
    # A snapshot is opened as it is: the checks below say what is missing, and files that are
    # no part of the model need not be there.
    try:
        cached = try_to_load_from_cache(source, "config.json")
    except HFValidationError:
        cached = None
    if isinstance(cached, str):
        return Path(cached).parent
    raise ModelUnreadable(
        f"There is no folder {source!r}, and no model of that name in this computer's "
        "Hugging Face cache. Check the path, or download the model first."
    )


def _require_config(folder: Path) -> Path:
    path = folder / "config.json"
    if path.is_file():
        return path
    if (folder / "adapter_config.json").is_file():
        raise ModelUnreadable(
            f"{folder} holds an adapter, not a model. Merge it into its base model and open "
            "the merged folder."
        )
    if (folder / "cfg.json").is_file():
        raise ModelUnreadable(
            f"{folder} looks like an SAE, not a model: it has cfg.json and no config.json. "
            "Open it as an SAE."
        )
    raise ModelUnreadable(
        f"{folder} is not a model folder: it has no config.json. Choose the folder in which "
        "config.json, the tokenizer and the .safetensors files lie."
    )


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return read_plain(path, _MAX_TEXT_BYTES)
    except ValueError as error:
        raise ModelUnreadable(
            f"{path} cannot be read as JSON ({error}). Copy the file again."
        ) from error


def _check_entries(folder: Path) -> None:
    """Refuse what has no end, and texts of any size: the library reads whatever is there."""
    for path in (*folder.glob("*"), *folder.glob("additional_chat_templates/*")):
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise ModelUnreadable(
                f"{path} is neither a file nor a folder, so the model is not opened. Remove it."
            )
        is_text = path.suffix in _TEXTS and path.is_file()
        if is_text and path.stat().st_size > _MAX_TEXT_BYTES:
            raise ModelUnreadable(f"{path} is far too large for such a file. Copy it again.")


def _refuse_other_kinds(folder: Path, config: dict[str, Any]) -> None:
    if not isinstance(config.get("model_type"), str):
        raise ModelUnreadable(
            f"{folder / 'config.json'} names no model_type, so it does not describe a "
            "language model. Choose another folder."
        )
    if config.get("is_encoder_decoder"):
        raise ModelUnreadable(
            f"{folder} holds an encoder-decoder model ({config['model_type']}). Only "
            "decoder-only models, such as GPT-2, Llama, Qwen or Gemma, can be opened."
        )


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    if index.is_file():
        return _shards(index)
    if any(any(folder.glob(pattern)) for pattern in _PICKLES):
        raise ModelUnreadable(
            f"{folder} holds its weights only as pickle files (.bin, .pt), which can run any "
            "code when opened. Convert them to model.safetensors first."
        )
    raise ModelUnreadable(
        f"{folder} has no weights: there is no model.safetensors in it. If the download was "
        "interrupted, start it again."
    )


def _shards(index: Path) -> list[Path]:
    weight_map = _read_json(index).get("weight_map")
    listed = list(weight_map.values()) if isinstance(weight_map, dict) else []
    if not listed or not all(isinstance(n, str) and _SHARD.fullmatch(n) for n in listed):
        raise ModelUnreadable(f"{index} lists no weight files. Copy the file again.")
    names = set(listed)
    missing = sorted(name for name in names if not (index.parent / name).is_file())
    if missing:
        raise ModelUnreadable(
            f"{index.parent} lacks {len(missing)} of its {len(names)} weight files, such as "
            f"{missing[0]}. Download the model again."
        )
    return [index.parent / name for name in sorted(names)]


def _count_tensors(path: Path) -> int:
    try:
        with safe_open(path, framework="pt") as file:
            return len(file.keys())
    except (SafetensorError, OSError) as error:
        raise ModelUnreadable(
            f"{path} is damaged or cut short ({error}). Download or copy it again."
        ) from error


def _check_depth(folder: Path, config: dict[str, Any], n_tensors: int) -> None:
    """Refuse a depth that the weights cannot fill, before that many layers are built."""
    n_layers = config.get("num_hidden_layers", config.get("n_layer", 1))
    if isinstance(n_layers, int) and not 0 < n_layers <= n_tensors:
        raise ModelUnreadable(
            f"{folder / 'config.json'} speaks of {n_layers} layers, and the weights hold only "
            f"{n_tensors} tensors. The two files do not belong together."
        )
