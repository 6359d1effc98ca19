"""Builds a network and its tokenizer from checked files. No code from the files is run."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)
from transformers.utils import logging as transformers_logging

from microscope.core.errors import ModelUnreadable
from microscope.engine.precision import quantisation
from microscope.engine.spreading import remark_on, spread

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_VERY_LONG = 1 << 40  # what a model can read is checked elsewhere
# What transformers raises for a file that it does not like; it has no error class of its own.
_LIBRARY_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    ImportError,
    RuntimeError,
    StrictDataclassError,
    SafetensorError,
)


def choose_device(device: str) -> torch.device:
    """The device of a name; "auto" is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ModelUnreadable: the machine has no such device.
    """
    has = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": _has_mps()}
    if device == "auto":
        return torch.device(next(kind for kind in ("cuda", "mps", "cpu") if has[kind]))
    kind, _, index = device.partition(":")
    is_known = has.get(kind, False) and (not index or index.isdecimal())
    if not is_known or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        present = ", ".join(kind for kind, is_here in has.items() if is_here)
        raise ModelUnreadable(f"There is no device {device!r} here. Choose from: {present}.")
    return torch.device(device)


def _has_mps() -> bool:
    return torch.backends.mps.is_available()


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Load the tokenizer in a folder.

    Raises:
        ModelUnreadable: its files are missing, damaged, or want code of their own.
    """
    with _quiet(), _named(f"The tokenizer in {folder} cannot be opened"):
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
    if not isinstance(tokenizer.model_max_length, int | float):
        tokenizer.model_max_length = _VERY_LONG
    if len(tokenizer) == 0:
        raise ModelUnreadable(f"The tokenizer in {folder} is empty. Copy its files again.")
    return tokenizer


def load_network(
    folder: Path,
    device: torch.device,
    dtype: torch.dtype | str,
    precision: str = "auto",
    *,
    may_spread: bool = False,
) -> tuple[PreTrainedModel, str]:
    """Load a decoder-only network for reading: eval mode, no gradients.

    `dtype` is that of the plain weights; `precision` may be "8bit" or "4bit" besides.
    With `may_spread` a network too large for a GPU is spread over all there are and main
    memory. Returns the network and a remark on that and on weights left unused, or "".

    Raises:
        ModelUnreadable: no such architecture, weights that do not fit it, or too little memory.
    """
    with _quiet(), _named(f"The model in {folder} cannot be opened"):
        config = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        _refuse_encoder(folder, config)
        _refuse_kernels(folder, config)
        _keep_one_scale(config)
        config.return_dict = True
        options = quantisation(precision, device)
        places = spread(config, device, dtype) if may_spread and not options else {}
        if places:
            options = {"device_map": places}
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            dtype=dtype,
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            output_loading_info=True,
            **options,
        )
        network, info = loaded  # a pair, because of `output_loading_info`
        _check_weights(folder, info)
        if not options:
            network = network.to(device)
        network = network.eval().requires_grad_(False)
    return network, f"{remark_on(places)} {_remark_on_unused(info)}".strip()


def _refuse_encoder(folder: Path, config: PreTrainedConfig) -> None:
    kind = config.model_type
    is_encoder = kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(
        config, "is_decoder", False
    )
    if is_encoder or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        what = "an encoder" if is_encoder else "not a decoder-only language model"
        raise ModelUnreadable(
            f"The model in {folder} ({kind}) is {what}: it does not write text from left to "
            "right. Open a decoder-only model such as GPT-2, Llama, Qwen or Gemma."
        )


def _refuse_kernels(folder: Path, config: PreTrainedConfig) -> None:
    """Refuse compiled code from the hub, which a configuration may name for attention."""
    named = (config._attn_implementation, config._experts_implementation)
    kernel = next((name for name in named if "/" in str(name)), None)
    if kernel is not None:
        raise ModelUnreadable(
            f"{folder / 'config.json'} asks for {kernel!r}, which is a program from the hub "
            "and not run here. Remove that line from the file."
        )


def _keep_one_scale(config: PreTrainedConfig) -> None:
    """Keep RWKV from halving its residual stream every few blocks, as it does for float16."""
    if getattr(config, "rescale_every", 0):
        config.rescale_every = 0


def _check_weights(folder: Path, info: dict[str, Any]) -> None:
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelUnreadable(
            f"The weights in {folder} lack {len(missing)} of the tensors that the model needs, "
            f"such as {', '.join(missing[:3])}. Download the model again."
        )
    mismatched = sorted(str(key) for key in info["mismatched_keys"])
    if mismatched:
        raise ModelUnreadable(
            f"The weights in {folder} do not have the shapes that config.json asks for: "
            f"{mismatched[0]}. The two files do not belong together."
        )


def _remark_on_unused(info: dict[str, Any]) -> str:
    unused = sorted(info["unexpected_keys"])
    if not unused:
        return ""
    return f"Unused tensors in the files: {len(unused)}, such as {unused[0]}."


@contextmanager
def _named(what: str) -> Iterator[None]:
    """Turn what the library raises into one sentence."""
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as error:
        raise _too_large(what) from error
    except _LIBRARY_ERRORS as error:
        if "alloc" in str(error) and "memory" in str(error):
            raise _too_large(what) from error
        raise ModelUnreadable(f"{what} ({_first_words(error)}).") from error


def _too_large(what: str) -> ModelUnreadable:
    return ModelUnreadable(
        f"{what}: there is not enough memory. Choose a smaller model, dtype bfloat16, or "
        "another device."
    )


def _first_words(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = text.rstrip(".")
    return text if len(text) <= 200 else f"{text[:200]}..."


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's progress bars, logs and warnings off the terminal."""
    verbosity = transformers_logging.get_verbosity()
    had_bars = transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.CRITICAL)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if had_bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
