"""The door between Qt's C++ and our overrides: an exception is logged and goes no further.

An exception that escapes from an override called by C++ can take the process down.
"""

from __future__ import annotations

import functools
import logging
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Callable

_logger = logging.getLogger(__name__)
Override = TypeVar("Override", bound="Callable[..., Any]")


def guarded_else(otherwise: object) -> Callable[[Override], Override]:
    """Make an override answer `otherwise` when it raises, and log what it raised."""

    def decorate(override: Override) -> Override:
        @functools.wraps(override)
        def door(*args: Any, **kwargs: Any) -> Any:
            try:
                return override(*args, **kwargs)
            except Exception:
                _logger.exception("%s failed", override.__qualname__)
                return otherwise

        return cast("Override", door)

    return decorate


def guarded(override: Override) -> Override:
    """Make an override that answers nothing log what it raises."""
    return guarded_else(None)(override)
