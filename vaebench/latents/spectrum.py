"""Power spectra of latents by the orthonormal DCT-II: shares of low and high frequencies, slopes, zigzag curve.

The DCT needs no window function at the borders.  White noise has the same mean power at every frequency, equal to its variance.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.fft import dctn

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK = 8
LOW, HIGH = 0.25, 0.5  # fractions of the largest frequency of a block


def power(z: NDArray) -> NDArray:
    """(C, t, h, w) -> (C, t, h, w): squared coefficients of the DCT over time, height and width."""
    return np.square(dctn(z, axes=(1, 2, 3), norm="ortho"))


@cache
def band_starts(size: int) -> NDArray:
    """First frequency of each band of an axis: 0, 1, 2, 3, and then two bands per octave: 4, 6, 8, 12, 16, 24, ..."""
    octaves = (start << k for k in range(size.bit_length()) for start in (4, 6))
    return np.array([start for start in (0, 1, 2, 3, *octaves) if start < size])


def bands(power: NDArray) -> NDArray:
    """(C, t, h, w) -> (C, bands of t, bands of h, bands of w): mean power in each box of frequencies.

    Boxes, unlike rings, keep the difference between an axis and a diagonal.
    """
    for axis, size in enumerate(power.shape[1:], start=1):
        shape = [1] * power.ndim
        shape[axis] = -1
        starts = band_starts(size)
        power = np.add.reduceat(power, starts, axis) / np.diff(starts, append=size).reshape(shape)
    return power


def band_weights(frames: int, height: int, width: int) -> NDArray:
    """(bands of t, bands of h, bands of w): number of frequencies in each box."""
    t, h, w = (np.diff(band_starts(size), append=size) for size in (frames, height, width))
    return t[:, None, None] * h[:, None] * w


def radial(power: NDArray) -> NDArray:
    """(h, w) -> (2, rings): frequency as a fraction of the Nyquist frequency and mean power, in rings of frequencies.

    DC and the ring at the Nyquist frequency, with the corners beyond it, are left out.
    """
    height, width = power.shape
    radius = np.hypot(np.arange(height)[:, None] / height, np.arange(width)[None] / width)
    ring = np.minimum((radius * min(height, width)).round().astype(int), min(height, width))
    ids = [number for number in range(1, min(height, width)) if (ring == number).any()]
    return np.array([[values[ring == n].mean() for n in ids] for values in (radius, power)])


def slope(frequency: NDArray, power: NDArray) -> float:
    """The exponent a of power ~ frequency ** a, by least squares in logarithms.

    Raises:
        ValueError: fewer than 3 frequencies have power
    """
    some = power > 0
    if some.sum() < 3:
        raise ValueError(f"a slope needs 3 frequencies with power, got {some.sum()}")
    return float(np.polyfit(np.log(frequency[some]), np.log(power[some]), 1)[0])


def block_power(z: NDArray) -> NDArray:
    """(C, t, h, w) -> (8, 8): mean squared DCT coefficient of the 8x8 blocks of each frame; an incomplete block is left out.

    Raises:
        ValueError: the frames are smaller than 8x8
    """
    channels, frames, height, width = z.shape
    _check(height, width)
    rows, columns = height // BLOCK, width // BLOCK
    cut = z[:, :, : rows * BLOCK, : columns * BLOCK].reshape(channels, frames, rows, BLOCK, columns, BLOCK)
    return np.square(dctn(cut, axes=(3, 5), norm="ortho")).mean(axis=(0, 1, 2, 4))


def _check(height: int, width: int) -> None:
    if min(height, width) < BLOCK:
        raise ValueError(f"8x8 DCT blocks need latents of at least 8x8 positions, got {height}x{width}: raise size")


def block_frequency() -> NDArray:
    """(8, 8) frequencies as a fraction of the largest."""
    return np.hypot(*np.mgrid[:BLOCK, :BLOCK]) / np.hypot(BLOCK - 1, BLOCK - 1)


def low_share(blocks: NDArray) -> float:
    """(8, 8) power -> share at frequencies up to 0.25; white noise has 8 / 64.

    Raises:
        ValueError: there is no power
    """
    return _share(blocks, block_frequency() <= LOW)


def high_share(blocks: NDArray) -> float:
    """(8, 8) power -> share at frequencies above 0.5; white noise has 42 / 64.

    Raises:
        ValueError: there is no power
    """
    return _share(blocks, block_frequency() > HIGH)


def _share(blocks: NDArray, some: NDArray) -> float:
    if not blocks.sum() > 0:
        raise ValueError("all latents are equal: there is no power")
    return float(blocks[some].sum() / blocks.sum())


def excess(blocks: NDArray, rgb: NDArray) -> float:
    """High-frequency excess (Skorokhodov et al., arXiv 2502.14831) in nats: 0 if the latents decay like RGB.

    The mean over zigzag indices above 16 of the log amplitude relative to DC, of the latents minus that of RGB.

    Args:
        blocks: (8, 8) power of the standardized latents
        rgb: (8, 8) power of the standardized RGB frames at the size of the latent

    Raises:
        ValueError: a frequency has no power
    """
    logs = []
    for name, values in (("latents", blocks), ("RGB frames", rgb)):
        order = values.ravel()[jpeg_order()]
        if not order.min() > 0:
            raise ValueError(f"the {name} have no power at some frequency")
        logs.append(0.5 * np.log(order / order[0])[BLOCK * BLOCK // 4 + 1 :].mean())
    return float(logs[0] - logs[1])


@cache
def jpeg_order() -> NDArray:
    """(64,) flat indices of an 8x8 block in the zigzag order of JPEG."""
    places = [(row, column) for row in range(BLOCK) for column in range(BLOCK)]
    places.sort(key=lambda place: (sum(place), place[0] if sum(place) % 2 else place[1]))
    return np.array([row * BLOCK + column for row, column in places])


def zigzag(z: NDArray) -> NDArray:
    """(C, t, h, w) -> (n,): mean power of 3D DCT blocks in the order of u + v + w, ties by u, v, w (time, row, column).

    Blocks have 8x8 positions and up to 8 frames.  The first latent frame, which a causal VAE encodes differently, is left out
    unless it is the only one.

    Raises:
        ValueError: the frames are smaller than 8x8
    """
    z = z[:, 1:] if z.shape[1] > 1 else z
    channels, frames, height, width = z.shape
    _check(height, width)
    span = min(BLOCK, frames)
    n = (frames // span, height // BLOCK, width // BLOCK)
    cut = z[:, : n[0] * span, : n[1] * BLOCK, : n[2] * BLOCK]
    cut = cut.reshape(channels, n[0], span, n[1], BLOCK, n[2], BLOCK)
    blocks = np.square(dctn(cut, axes=(2, 4, 6), norm="ortho")).mean(axis=(0, 1, 3, 5))  # (span, 8, 8)
    order = sorted(np.ndindex(*blocks.shape), key=lambda place: (sum(place), place))
    return np.array([blocks[place] for place in order])
