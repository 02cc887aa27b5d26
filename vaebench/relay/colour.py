"""Colour difference of frames: the distance of their mean colours in CIELAB, where about 2.3 is just noticeable."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.video import Video

# linear sRGB -> XYZ (IEC 61966-2-1); white is the sum of each row, so that greys have no colour
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
DARK = 6 / 29  # below its cube, the cube root of CIELAB is a straight line


def delta_e(video: Video, reference: Video) -> float:
    """CIE 1976 difference of the mean colours of two videos (1, 3, T, H, W) in -1..1; black and white differ by 100.

    The mean is that of the gamma-encoded values.
    """
    return float(np.linalg.norm(lab(_mean(video)) - lab(_mean(reference))))


def _mean(video: Video) -> NDArray:
    """(3,) mean red, green and blue in 0..1; a mean outside that range is clamped."""
    colours: NDArray = video.double().mean(dim=(0, 2, 3, 4)).add(1).div(2).clamp(0, 1).cpu().numpy()
    return colours


def lab(rgb: NDArray) -> NDArray:
    """sRGB (3,) in 0..1 -> CIELAB (3,): lightness from 0 to 100, green to red, blue to yellow."""
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    xyz = TO_XYZ @ linear / TO_XYZ.sum(axis=1)
    x, y, z = np.where(xyz > DARK**3, np.cbrt(xyz), xyz / (3 * DARK**2) + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
