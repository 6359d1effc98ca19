"""`microscope doctor`: versions, devices, memory, paths, and what is wrong."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from microscope import __version__
from microscope.cli.output import write_json
from microscope.core.errors import UserError
from microscope.storage import paths
from microscope.storage.shelf import has_specimen, specimen_folder

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

LIBRARIES = (
    "PySide6-Essentials",
    "pyqtgraph",
    "superqt",
    "psygnal",
    "msgspec",
    "numpy",
    "torch",
    "transformers",
    "safetensors",
    "huggingface_hub",
)
MIN_FREE_BYTES = 2 << 30


def run(options: argparse.Namespace) -> int:
    """Print the report as JSON; exit code 1 when something is wrong."""
    report = examine()
    write_json(report, options.json)
    return 1 if report["problems"] else 0


def examine() -> dict[str, object]:
    """The report, with stable keys."""
    problems: list[str] = []
    return {
        "microscope": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "libraries": _libraries(problems),
        "devices": _checked(_devices, problems, "torch"),
        "window": _checked(_window, problems, "Qt"),
        "memory": _memory(problems),
        "paths": _paths(problems),
        "specimen": {"folder": str(specimen_folder()), "is_there": has_specimen()},
        "problems": problems,
    }


def _libraries(problems: list[str]) -> dict[str, str]:
    found = {}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            found[library] = "missing"
            problems.append(f"The library {library} is not installed.")
    return found


def _checked(
    look: Callable[[], dict[str, object]], problems: list[str], what: str
) -> dict[str, object]:
    """What `look` finds; a library that cannot even be imported is a problem, not a crash."""
    try:
        return look()
    except (ImportError, OSError, RuntimeError) as error:
        problems.append(f"{what} does not work here: {error}")
        return {}


def _devices() -> dict[str, object]:
    torch = import_module("torch")
    engine = import_module("microscope.engine.model_engine")
    return {"available": list(engine.devices()), "torch_threads": torch.get_num_threads()}


def _window() -> dict[str, object]:
    os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    gui = import_module("PySide6.QtGui")
    application = gui.QGuiApplication.instance() or gui.QGuiApplication(["doctor"])
    families = gui.QFontDatabase.families()
    if not families:
        raise RuntimeError("there is no font; install one, for example DejaVu")
    return {
        "platform": application.platformName(),
        "has_display": has_display(),
        "n_font_families": len(families),
    }


def has_display() -> bool:
    """Whether a window can be shown to a person."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


def _memory(problems: list[str]) -> dict[str, object]:
    report: dict[str, object] = {"logical_cores": os.cpu_count()}
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        sizes = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        report["total_bytes"] = int(sizes["MemTotal"].split()[0]) * 1024
        report["available_bytes"] = int(sizes["MemAvailable"].split()[0]) * 1024
        if int(sizes["MemAvailable"].split()[0]) * 1024 < MIN_FREE_BYTES:
            problems.append("Less than 2 GiB of memory is free: large models will not fit.")
    return report


def _paths(problems: list[str]) -> dict[str, object]:
    report: dict[str, object] = {}
    for name in ("user_data", "user_cache", "user_config", "user_log"):
        folder: Path = getattr(paths, name)()
        report[name] = str(folder)
        existing = next(place for place in (folder, *folder.parents) if place.exists())
        if not os.access(existing, os.W_OK):
            problems.append(f"The folder {folder} cannot be written.")
    try:
        report["resources"] = str(paths.resources())
    except UserError as error:
        problems.append(str(error))
    report["free_bytes"] = shutil.disk_usage(Path.home()).free
    return report
