"""How the weights of a model are held: plain dtypes, and 8 or 4 bits where that is installed.

8 and 4 bits are bitsandbytes' LLM.int8 and NF4: the matrices inside the blocks are stored so
and multiplied in bfloat16 (NF4) or float16 (int8); embeddings, norms and the unembedding stay
bfloat16, so the lens is that of the full model.
"""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

import torch

from microscope.core.errors import ModelUnreadable

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
QUANTISED = ("8bit", "4bit")
NEEDED = ("bitsandbytes", "accelerate")
"""The packages that 8 and 4 bits take."""

_SETTINGS: dict[str, dict[str, Any]] = {
    "8bit": {"load_in_8bit": True},
    "4bit": {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": torch.bfloat16,
    },
}


def choose_dtype(dtype: str, device: torch.device) -> torch.dtype | str:
    """The dtype of a name; "auto" is float32 on the CPU, elsewhere the checkpoint's own.

    "8bit" and "4bit" are bfloat16 around matrices that are smaller.

    Raises:
        ModelUnreadable: no dtype of that name can be used here.
    """
    if dtype == "auto":
        return torch.float32 if device.type == "cpu" else "auto"
    if dtype in QUANTISED:
        _check_quantisation(dtype, device)
        return torch.bfloat16
    if dtype not in DTYPES:
        raise ModelUnreadable(
            f"A model cannot be opened as {dtype!r}. Choose auto, "
            f"{', '.join((*DTYPES, *QUANTISED))}."
        )
    return DTYPES[dtype]


def quantisation(dtype: str, device: torch.device) -> dict[str, Any]:
    """What the library wants to be told to load 8 or 4 bits; nothing for a plain dtype."""
    if dtype not in QUANTISED:
        return {}
    from transformers import BitsAndBytesConfig

    # It warns at every multiplication that it casts to float16.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    return {
        "quantization_config": BitsAndBytesConfig(**_SETTINGS[dtype]),  # type: ignore[no-untyped-call]
        # Such weights are made on their device and cannot be moved to it later.
        "device_map": {"": str(device)},
    }


def _check_quantisation(dtype: str, device: torch.device) -> None:
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ModelUnreadable(
            f"A model can be opened as {dtype} only where the packages {' and '.join(NEEDED)} "
            f"are installed; {' and '.join(missing)} is missing. Choose bfloat16, or install "
            "it."
        )
    if device.type not in ("cuda", "cpu"):
        raise ModelUnreadable(
            f"A model cannot be opened as {dtype} on the device {device}. Choose bfloat16, or "
            "the device cpu."
        )
