"""How the engine process is started: its command line and its environment."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FROZEN_NAME = "microscope-engine"


def engine_command() -> list[str]:
    """The engine's command: a second executable beside ours in a frozen app.

    A windowed program on Windows has no stdin and stdout, hence the second executable.
    """
    if getattr(sys, "frozen", False):
        suffix = Path(sys.executable).suffix
        return [str(Path(sys.executable).with_name(FROZEN_NAME + suffix))]
    return [sys.executable, "-m", "microscope.engine"]


def engine_environment() -> dict[str, str]:
    """Our environment, with no telemetry and with threads that do not spin.

    Spinning OpenMP threads fight the window for the cores: with another busy process two
    threads were four times slower than one. A user's own settings are kept.
    """
    environment = dict(os.environ)
    for name, value in {
        "OMP_NUM_THREADS": str(default_n_threads()),
        "OMP_WAIT_POLICY": "passive",
        "GOMP_SPINCOUNT": "0",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONFAULTHANDLER": "1",
    }.items():
        environment.setdefault(name, value)
    environment["HF_HUB_DISABLE_TELEMETRY"] = "1"
    return environment


def default_n_threads() -> int:
    """One thread fewer than there are cores (two logical cores counted as one)."""
    logical = os.cpu_count() or 2
    return max(1, logical // 2 - (logical > 4))
