import dataclasses

import numpy as np
import pytest
from PySide6.QtGui import QColor

from microscope.views.colour_map import colour_table, needs_light_text
from microscope.views.icons import icon, icon_path
from microscope.views.theme import THEMES, apply_theme, current_theme


def luminance(colour):
    encoded = np.array(QColor(colour).getRgbF()[:3])
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", THEMES.values(), ids=THEMES)
@pytest.mark.parametrize("ink", ["text", "muted", "accent", "steered", "bad", "caution"])
def test_every_ink_reads_on_every_ground(theme, ink):
    for ground in (theme.background, theme.surface, theme.raised):
        assert contrast(getattr(theme, ink), ground) >= 4.5


@pytest.mark.parametrize("name", THEMES)
def test_applying_a_theme_fills_the_whole_sheet(qapp, name):
    theme = apply_theme(qapp, name, scale=1.5)
    assert theme == current_theme() == dataclasses.replace(THEMES[name], scale=1.5)
    assert "@" not in qapp.styleSheet()
    assert qapp.font().pointSizeF() == pytest.approx(1.5 * 10.5)


@pytest.mark.parametrize("name", ["dark", "light"])
def test_equal_steps_of_a_colour_table_look_equal_and_lightness_runs_one_way(name):
    encoded = colour_table(name) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    to_cones = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    to_lab = np.array(
        [
            [0.2104542553, 0.7936177850, -0.0040720468],
            [1.9779984951, -2.4285922050, 0.4505937099],
            [0.0259040371, 0.7827717662, -0.8086757660],
        ]
    )
    lab = np.cbrt(linear @ to_cones.T) @ to_lab.T
    strides = np.linalg.norm(lab[32::32] - lab[:-32:32], axis=1)
    assert strides.max() / strides.min() < 1.15
    lightness = np.diff(lab[::8, 0])
    assert (lightness > 0).all() or (lightness < 0).all()


def test_text_on_the_heatmap_takes_the_colour_that_contrasts_more():
    table = np.array([[0, 0, 0], [255, 255, 255], [30, 60, 140], [150, 220, 130]], np.uint8)
    assert needs_light_text(table).tolist() == [True, False, True, False]


@pytest.mark.parametrize("path", sorted(icon_path("app").parent.glob("*.svg")), ids=str)
def test_every_icon_draws_something(qapp, path):
    picture = icon(path.stem, "#ff0000").pixmap(32, 32).toImage()
    pixels = (picture.pixelColor(x, y).alpha() for x in range(32) for y in range(32))
    assert sum(alpha > 0 for alpha in pixels) > 8
