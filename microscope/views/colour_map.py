"""Colour tables of 256 evenly spaced steps, computed in OKLab (Ottosson 2020).

Equal steps in value are equal steps in perceived colour, and lightness runs one way only, so
that the tables also read in grey and with any kind of colour vision.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

_TO_CONE_ROOTS = np.array(  # OKLab to cube roots of cone responses
    [
        [1.0, 0.3963377774, 0.2158037573],
        [1.0, -0.1055613458, -0.0638541728],
        [1.0, -0.0894841775, -1.2914855480],
    ]
)
_TO_LINEAR_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
# lightness, chroma and hue in degrees at evenly spaced points of the path
_PATHS = {
    "dark": ((0.25, 0.035, 268), (0.42, 0.10, 262), (0.60, 0.115, 205), (0.90, 0.145, 118)),
    "light": ((0.975, 0.012, 220), (0.82, 0.07, 215), (0.60, 0.12, 245), (0.36, 0.15, 270)),
}


def _to_linear(lab: np.ndarray) -> np.ndarray:
    return np.asarray((lab @ _TO_CONE_ROOTS.T) ** 3 @ _TO_LINEAR_RGB.T)


def _path(name: str) -> np.ndarray:
    """2,049 OKLab points along the path, pulled towards grey where sRGB cannot show them."""
    corners = np.array(_PATHS[name])
    at = np.linspace(0, 1, 2049)
    lightness, chroma, hue = (
        np.interp(at, np.linspace(0, 1, len(corners)), corners[:, i]) for i in range(3)
    )
    angle = np.deg2rad(hue)
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1)
    for _ in range(40):
        linear = _to_linear(lab)
        outside = ((linear < 0) | (linear > 1)).any(axis=1)
        lab[outside, 1:] *= 0.97
    return np.asarray(lab)


@lru_cache(maxsize=2)
def colour_table(name: Literal["dark", "light"]) -> np.ndarray:
    """A read-only uint8 table, shape (256, 3); row 255 stands for the largest value."""
    lab = _path(name)
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    length = np.concatenate([[0.0], np.cumsum(steps)])
    even = np.linspace(0, length[-1], 256)
    table = np.stack([np.interp(even, length, lab[:, i]) for i in range(3)], axis=1)
    linear = np.clip(_to_linear(table), 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    rgb = np.rint(255 * encoded).astype(np.uint8)
    rgb.setflags(write=False)
    return np.asarray(rgb)


def needs_light_text(table: np.ndarray) -> np.ndarray:
    """For each colour whether white text contrasts more than black (WCAG 2 luminance)."""
    encoded = table / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    luminance = linear @ np.array([0.2126, 0.7152, 0.0722])
    return np.asarray(1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05)
