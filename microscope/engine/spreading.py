"""Which block of a network goes where, for one that is too large for the first GPU.

Embedding, final norm and unembedding stay on the first GPU, where the lens reads them; blocks
fill it, then the other GPUs, then main memory, from where accelerate brings each one in when
it is run. Done only where accelerate is installed and the network does not fit as a whole.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM

from microscope.core.errors import ModelUnreadable
from microscope.engine.architectures import anatomy_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

USABLE = 0.9
"""The share of a GPU's free memory that is planned with."""
RESERVE_BYTES = 1 << 30
"""What stays free on the first GPU for activations, logits and SAEs."""
MAIN_MEMORY = "cpu"


@dataclass(frozen=True)
class Room:
    """A GPU and how many of its bytes may be filled."""

    device: str
    n_bytes: int


def spread(
    config: PreTrainedConfig, device: torch.device, dtype: torch.dtype | str
) -> dict[str, str]:
    """Module paths and their devices; empty where the network fits on the device.

    Raises:
        ModelUnreadable: it does not, and accelerate is not installed.
    """
    if device.type != "cuda":
        return {}
    network = _skeleton(config, dtype)
    rooms = free_rooms(device)
    n_bytes = _size_bytes(network)
    if n_bytes <= rooms[0].n_bytes:
        return {}
    if importlib.util.find_spec("accelerate") is None:
        raise ModelUnreadable(
            f"The weights take {n_bytes / 1e9:.1f} GB and {device} has room for "
            f"{rooms[0].n_bytes / 1e9:.1f} GB. Choose bfloat16 or fewer bits, the device cpu, "
            "or install accelerate, which spreads a model over several devices."
        )
    return device_map(network, rooms)


def device_map(network: PreTrainedModel, rooms: Sequence[Room]) -> dict[str, str]:
    """Every part of a network on a device; the first room has what is not in blocks."""
    blocks = {id(block): block for block in anatomy_of(network).blocks}
    sizes = [_size_bytes(block) for block in blocks.values()]
    outside = _size_bytes(network) - sum(sizes)
    first = Room(rooms[0].device, rooms[0].n_bytes - outside)
    places = place_blocks(sizes, (first, *rooms[1:]))
    device_of = dict(zip(blocks, places, strict=True))
    return {
        path: device_of.get(id(module), rooms[0].device)
        for path, module in _parts(network, "", set(blocks))
    }


def place_blocks(sizes: Sequence[int], rooms: Sequence[Room]) -> list[str]:
    """A device for each block in turn: the first with room left, else main memory.

    A block never goes to an earlier device than the one before it, so that the residual
    stream crosses each border once.
    """
    devices: list[str] = []
    waiting, left = list(rooms), rooms[0].n_bytes if rooms else 0
    for size in sizes:
        while waiting and size > left:
            waiting.pop(0)
            left = waiting[0].n_bytes if waiting else 0
        left -= size
        devices.append(waiting[0].device if waiting else MAIN_MEMORY)
    return devices


def free_rooms(device: torch.device) -> list[Room]:
    """The GPUs, the chosen one first, and what may be filled of each."""
    torch.cuda.empty_cache()  # torch keeps what a closed model took, which then looks taken
    others = (torch.device("cuda", n) for n in range(torch.cuda.device_count()))
    chosen = torch.device("cuda", device.index or 0)
    ordered = (chosen, *(other for other in others if other != chosen))
    rooms = [Room(str(gpu), int(USABLE * torch.cuda.mem_get_info(gpu)[0])) for gpu in ordered]
    return [Room(rooms[0].device, rooms[0].n_bytes - RESERVE_BYTES), *rooms[1:]]


def remark_on(places: dict[str, str]) -> str:
    """A sentence on where a spread network is; empty for one that is not spread."""
    devices = sorted(set(places.values()) - {MAIN_MEMORY})
    if not places:
        return ""
    is_partly_out = MAIN_MEMORY in places.values()
    slow = " and main memory, which makes it slow" if is_partly_out else ""
    return f"The model is too large for one GPU: it is spread over {', '.join(devices)}{slow}."


def _skeleton(config: PreTrainedConfig, dtype: torch.dtype | str) -> PreTrainedModel:
    """The network without memory for its weights."""
    own = getattr(config, "dtype", None) or torch.float32
    with torch.device("meta"):
        network: PreTrainedModel = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
            config, dtype=own if dtype == "auto" else dtype
        )
    return network


def _size_bytes(module: nn.Module) -> int:
    tensors = {id(t): t for t in (*module.parameters(), *module.buffers())}
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())


def _parts(module: nn.Module, path: str, blocks: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """The blocks, and the largest modules with no block inside."""
    if id(module) in blocks or not any(id(inner) in blocks for inner in module.modules()):
        yield path, module
        return
    for name, child in module.named_children():
        yield from _parts(child, f"{path}.{name}".lstrip("."), blocks)
