"""Which build of PyTorch to install, and where to look for it first.

On Linux the usual build carries several gigabytes of CUDA; without an NVIDIA GPU a CPU build
does the same work at a twentieth of the size.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import Literal

TORCH_VERSION = "2.13.0"


@dataclass(frozen=True)
class Route:
    """One way to get PyTorch; the next one is tried when it does not lead there."""

    told: str
    tool: Literal["pip", "uv"]
    arguments: tuple[str, ...]


_PIN = f"torch=={TORCH_VERSION}"
_PLAIN = Route(f"Installing PyTorch {TORCH_VERSION}", "pip", (_PIN,))
_PLAIN_LARGE = Route(
    f"Installing PyTorch {TORCH_VERSION}, the large build (with CUDA, several gigabytes)",
    "pip",
    (_PIN,),
)
_LOCAL_CPU = Route(
    f"Looking for a CPU build of PyTorch {TORCH_VERSION} where pip looks",
    "pip",
    (_PIN + "+cpu",),
)


def _by_uv(backend: str, told: str) -> Route:
    # uv knows where PyTorch's own builds are kept. The dependencies are left to pip, which
    # follows the user's settings for mirrors and certificates.
    return Route(told, "uv", ("--no-deps", f"--torch-backend={backend}", _PIN))


def routes(platform: str, has_gpu: bool) -> tuple[Route, ...]:
    """The ways to try, best first; `platform` as in `sys.platform`."""
    if platform == "win32" and has_gpu:
        told = f"Installing PyTorch {TORCH_VERSION} for this NVIDIA GPU, with uv"
        return (_by_uv("auto", told), _PLAIN)
    if platform.startswith("linux") and has_gpu:
        return (_PLAIN_LARGE,)
    if platform.startswith("linux"):
        told = f"Installing a CPU build of PyTorch {TORCH_VERSION}, with uv"
        return (_LOCAL_CPU, _by_uv("cpu", told), _PLAIN_LARGE)
    return (_PLAIN,)


def has_nvidia_gpu() -> bool:
    """Whether there is a driver that answers for an NVIDIA GPU."""
    return Path("/proc/driver/nvidia/version").exists() or _nvidia_smi_answers()


def _nvidia_smi_answers() -> bool:
    program = shutil.which("nvidia-smi")
    if program is None:
        return False
    try:
        listing = subprocess.run([program, "-L"], capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return listing.returncode == 0 and b"GPU" in listing.stdout
