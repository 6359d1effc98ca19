"""How much memory is free on this computer, without torch."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from microscope.core.library import FreeMemory

_MEMINFO = Path("/proc/meminfo")
_PATIENCE_S = 5.0


def free_memory() -> FreeMemory:
    """Main memory and that of the first GPU, as far as they can be known."""
    name, free_bytes = nvidia_gpu()
    return FreeMemory(free_cpu_bytes(), free_bytes, name)


def free_cpu_bytes() -> int | None:
    """Main memory that programs can still take, or None where nobody says."""
    if _MEMINFO.is_file():
        return parse_meminfo(_MEMINFO.read_text(encoding="ascii", errors="replace"))
    if sys.platform == "darwin":
        return parse_vm_stat(_output("vm_stat"))
    if sys.platform == "win32":
        return _windows_free_bytes()
    return _sysconf_free_bytes()


def parse_meminfo(text: str) -> int | None:
    """The available memory in Linux's own report."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else None


def parse_vm_stat(text: str) -> int | None:
    """Free, inactive and purgeable pages in what macOS's `vm_stat` prints."""
    size = re.search(r"page size of (\d+) bytes", text)
    kinds = ("free", "inactive", "speculative", "purgeable")
    pages = [re.search(rf"^Pages {kind}:\s+(\d+)", text, re.MULTILINE) for kind in kinds]
    known = [int(found[1]) for found in pages if found]
    return sum(known) * int(size[1]) if size and known else None


def nvidia_gpu() -> tuple[str, int]:
    """Name and free bytes of the first NVIDIA GPU; "" and 0 where there is none."""
    return parse_nvidia_smi(
        _output("nvidia-smi", "--query-gpu=name,memory.free", "--format=csv,noheader,nounits")
    )


def parse_nvidia_smi(text: str) -> tuple[str, int]:
    """The first line of `name, free MiB`."""
    name, comma, mebibytes = text.partition("\n")[0].rpartition(",")
    if not comma or not mebibytes.strip().isdecimal():
        return "", 0
    return name.strip(), int(mebibytes) << 20


def _output(*command: str) -> str:
    """What a program prints; nothing where it is missing, fails or hangs."""
    program = shutil.which(command[0])
    if program is None:
        return ""
    try:
        done = subprocess.run(
            [program, *command[1:]],
            capture_output=True,
            text=True,
            timeout=_PATIENCE_S,
            check=True,
            creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _sysconf_free_bytes() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


class _MemoryStatus(ctypes.Structure):
    """Windows' MEMORYSTATUSEX."""

    _fields_ = (
        ("length", ctypes.c_ulong),
        ("load", ctypes.c_ulong),
        *(
            (name, ctypes.c_ulonglong)
            for name in (
                "total",
                "available",
                "total_page_file",
                "available_page_file",
                "total_virtual",
                "available_virtual",
                "available_extended",
            )
        ),
    )


def _windows_free_bytes() -> int | None:
    status = _MemoryStatus(length=ctypes.sizeof(_MemoryStatus))
    library = getattr(ctypes, "windll", None)
    if library is None or not library.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return int(status.available)
