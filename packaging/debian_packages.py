"""Installing a system's packages on Debian and Ubuntu, where we may."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from steps import is_network_failure, output_of_failed, say, tail_of, write

if TYPE_CHECKING:
    from collections.abc import Sequence


def has_apt() -> bool:
    """Whether this is a system with apt-get."""
    return shutil.which("apt-get") is not None


def install_packages(packages: Sequence[str]) -> bool:
    """Install packages as root or with a sudo that asks nothing.

    Returns:
        Whether they are installed. If not, the user has been told why and what to type.
    """
    names = " ".join(packages)
    prefix = _privilege()
    if prefix is None:
        say(f"Not allowed to install {names}. Please run: sudo apt-get install {names}")
        return False
    say(f"Installing with apt-get: {names}")
    errors = _update_and_install(prefix, packages)
    if errors and is_network_failure(errors):
        say("The network failed; trying once more")
        errors = _update_and_install(prefix, packages)
    if errors:
        write(tail_of(errors))
        say(f"apt-get failed. Please run: sudo apt-get install {names}")
    return errors is None


def _privilege() -> list[str] | None:
    """What to put before a command that needs root; None when we may not."""
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return []
    if shutil.which("sudo") and output_of_failed(["sudo", "-n", "true"]) is None:
        return ["sudo", "-n"]
    return None


def _update_and_install(prefix: Sequence[str], packages: Sequence[str]) -> str | None:
    # Through `env`, since sudo drops our environment. A failed update (one mirror of many
    # may be down) is told only when the installation fails as well.
    apt = [*prefix, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]
    stale = output_of_failed([*apt, "update"])
    errors = output_of_failed([*apt, "install", "-y", "--no-install-recommends", *packages])
    return None if errors is None else (stale or "") + errors
