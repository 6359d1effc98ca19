"""Will it fit: an estimate of the memory a model takes, against what is free.

A rule of thumb from shapes alone, meant to err on the large side by a little:

* weights: numbers times bytes. In 8 and 4 bits only the matrices inside the blocks shrink;
  embeddings stay at 2 bytes. 4 bits cost 4.5, since every 64 numbers share a float32 scale.
* cache: keys and values of two texts (baseline and steered) of `N_TOKENS` tokens.
* working: the residual of every layer in float32, a stretch of logits three times over (as
  scores, their exponentials and the best of them), one layer's attention scores, and what
  the engine process itself takes before any model is open.
* SAEs: in float32, whatever they were published in.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING

from microscope.core.library import Choice, MemoryNeed, Verdict

if TYPE_CHECKING:
    from microscope.core.library import Device, FreeMemory, LocalModel, ModelShape, Starter

N_TOKENS = 1024
N_TEXTS = 2
LOGIT_ROWS = 128
ENGINE_BYTES = 450 << 20
"""The engine process with its libraries: 330 MiB measured on the CPU, rounded up."""

HEADROOM = 0.92
"""The share of the free memory that may be planned with."""

_CHOICES: tuple[Choice, ...] = ("float32", "bfloat16", "8bit", "4bit")
_BLOCK_BYTES: dict[Choice, float] = {
    "float32": 4.0,
    "bfloat16": 2.0,
    "8bit": 1.0,
    "4bit": 0.5 + 4 / 64,
}
_TITLES: dict[Choice, str] = {
    "auto": "the usual dtype",
    "float32": "float32",
    "bfloat16": "bfloat16",
    "8bit": "8 bits",
    "4bit": "4 bits",
}


def can_quantise() -> bool:
    """Whether the libraries for 8 and 4 bits are installed."""
    needed = ("bitsandbytes", "accelerate")
    return all(importlib.util.find_spec(name) is not None for name in needed)


def can_spread() -> bool:
    """Whether the library that shares a model out over devices is installed."""
    return importlib.util.find_spec("accelerate") is not None


def available_choices() -> tuple[Choice, ...]:
    """What a model can be opened as, largest first."""
    return _CHOICES if can_quantise() else _CHOICES[:2]


def title_of(choice: Choice) -> str:
    """A choice in words."""
    return _TITLES[choice]


def settle(choice: Choice, own_dtype: str, device: Device) -> Choice:
    """What `auto` comes to: float32 on the CPU, else the checkpoint's own dtype."""
    if choice != "auto":
        return choice
    return "float32" if device == "cpu" or own_dtype in ("float32", "float64") else "bfloat16"


def memory_need(
    n_parameters: int, shape: ModelShape, choice: Choice, sae_bytes: int = 0
) -> MemoryNeed:
    """What a model of that many parameters takes once it is open and a prompt is read."""
    block_bytes = _BLOCK_BYTES[choice]
    plain_bytes = max(2.0, block_bytes)
    outside = min(shape.n_vocabulary * shape.d_model, n_parameters)
    weights = (n_parameters - outside) * block_bytes + outside * plain_bytes
    return MemoryNeed(
        weights=round(weights),
        cache=round(_cache_numbers(shape) * plain_bytes),
        working=4 * _working_numbers(shape) + ENGINE_BYTES,
        saes=sae_bytes,
    )


def judge(
    model: LocalModel | Starter, choice: Choice, free: FreeMemory, sae_bytes: int = 0
) -> Verdict:
    """Whether a model fits as `choice`, and what smaller choices would."""

    def need(as_: Choice) -> MemoryNeed:
        return memory_need(model.n_parameters, model.shape, as_, sae_bytes)

    settled = settle(choice, model.dtype, free.device)
    wanted, free_bytes = need(settled), free.usable_bytes
    fits = free_bytes is None or wanted.total <= HEADROOM * free_bytes
    is_spread = not fits and choice == "auto" and _fits_spread(wanted, free)
    smaller = tuple(
        other
        for other in available_choices()
        if need(other).total < wanted.total
        and free_bytes is not None
        and need(other).total <= HEADROOM * free_bytes
    )
    sentence = _sentence(settled, wanted, free, fits=fits or is_spread, smaller=smaller)
    if is_spread:
        sentence += " What does not fit there goes to main memory, which makes it slow."
    return Verdict(settled, wanted, free_bytes, fits or is_spread, sentence, smaller)


def in_words(n_bytes: float) -> str:
    """A size for people, in powers of ten: "6.2 GB"."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n_bytes >= size:
            number = n_bytes / size
            return f"{number:.0f} {unit}" if number >= 100 else f"{number:.1f} {unit}"
    return f"{n_bytes:.0f} bytes"


def _cache_numbers(shape: ModelShape) -> int:
    return 2 * shape.n_layers * shape.n_kv_heads * shape.head_dim * N_TOKENS * N_TEXTS


def _working_numbers(shape: ModelShape) -> int:
    residuals = (shape.n_layers + 1) * N_TOKENS * shape.d_model * N_TEXTS
    logits = 3 * LOGIT_ROWS * shape.n_vocabulary
    return residuals + logits + shape.n_heads * N_TOKENS * N_TOKENS


def _fits_spread(need: MemoryNeed, free: FreeMemory) -> bool:
    """Whether the engine can share it out over the GPU and main memory."""
    both = free.gpu_bytes + (free.cpu_bytes or 0)
    return bool(free.gpu_bytes) and can_spread() and need.total <= HEADROOM * both


def _sentence(
    choice: Choice,
    need: MemoryNeed,
    free: FreeMemory,
    *,
    fits: bool,
    smaller: tuple[Choice, ...],
) -> str:
    about = f"About {in_words(need.total)} as {title_of(choice)}"
    if free.usable_bytes is None:
        return f"{about}; how much memory is free is not known."
    place = f"on the {free.gpu_name or 'GPU'}" if free.gpu_bytes else "in main memory"
    room = f"{in_words(free.usable_bytes)} are free {place}"
    if fits:
        return f"{about}; {room}."
    return f"{about}, and only {room}: it will not fit. {_advice(need, free, smaller)}"


def _advice(need: MemoryNeed, free: FreeMemory, smaller: tuple[Choice, ...]) -> str:
    if smaller:
        return f"Open it as {' or '.join(title_of(choice) for choice in smaller)}."
    if free.gpu_bytes and (free.cpu_bytes or 0) * HEADROOM >= need.total:
        return "It fits in main memory: open it on the CPU, where it is slower."
    return "Choose a smaller model, or close other programs."
