"""Colour and marker of each VAE, the same in all figures of a results folder, and of each inference mode."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from vaebench import records
from vaebench.plot_style import COLOURS, MARKERS, shade

SUITES = (
    "reconstruction",
    "blockwise",
    "latent",
    "diffusability",
    "efficiency",
    "relay",
)  # families of the first suites get distinct colours
REFERENCE = {"color": "#000000", "marker": "o"}  # of `identity` and of whole inference
CODEC = {"color": "#7F7F7F", "marker": "o"}  # of all codecs: no VAE has it, and the rows name them
# kind of mode -> position of its colour; chunks-4 and independent-17 are of the kinds chunks and independent
MODES = {"streamed": 0, "tiled": 1, "native": 2, "independent": 3, "chunks": 4, "diffusers": 5}
OTHERS = 7  # position of the colour of other modes
LINES = ("-", "--", "-.", ":")


def of_vaes(root: Path) -> dict[str, dict[str, str]]:
    """Name of each VAE with a record below `root` -> "color" and "marker".

    A family has one hue and one marker, and its variants are shades of the hue: those whose quality was measured are darker.
    """
    families = _families(root)
    looks = dict.fromkeys(families.pop("identity", {}), REFERENCE) | dict.fromkeys(families.pop("codec", {}), CODEC)
    for i, names in enumerate(families.values()):
        family = {"color": COLOURS[_hue(i)], "marker": MARKERS[(i // len(COLOURS) + i) % len(MARKERS)]}
        for name, colour in _shades(family["color"], names).items():
            looks[name] = {**family, "color": colour}
    return looks


def hues(root: Path) -> dict[str, int]:
    """Family of each VAE with a record below `root` -> the position of its hue in COLOURS; that of codecs is behind them."""
    families = _families(root)
    fixed = {"identity": COLOURS.index(REFERENCE["color"]), "codec": len(COLOURS)}
    return {family: _hue(i) for i, family in enumerate(f for f in families if f not in fixed)} | {
        family: hue for family, hue in fixed.items() if family in families
    }


def _families(root: Path) -> dict[str, dict[str, None]]:
    """Family -> the names of its VAEs, those of the first suites first."""
    families: dict[str, dict[str, None]] = {}
    for suite in SUITES:
        named = {str(record.vae["name"]): str(record.vae["family"]) for record in records.read_all(root, suite)}
        for name in sorted(named, key=_by_number):
            families.setdefault(named[name], {})[name] = None
    return families


def _hue(i: int) -> int:
    """The i-th position in COLOURS without black, which is the colour of references."""
    hues = [position for position, colour in enumerate(COLOURS) if colour != REFERENCE["color"]]
    return hues[i % len(hues)]


def of_modes(modes: Iterable[str]) -> dict[str, dict[str, str]]:
    """Mode -> "color" and "marker", the same for every VAE; whole inference is black."""
    looks: dict[str, dict[str, str]] = {}
    kinds: dict[int, list[str]] = {}
    for mode in modes:
        kinds.setdefault(MODES.get(re.sub(r"-\d+$", "", mode), OTHERS), []).append(mode)
    for position, names in kinds.items():
        for mode, colour in _shades(COLOURS[position], sorted(names, key=_by_number)).items():
            looks[mode] = REFERENCE if mode == "whole" else {"color": colour, "marker": MARKERS[position]}
    return looks


def _shades(colour: str, names: Iterable[str]) -> dict[str, str]:
    """Name -> a shade of `colour`, the first name with the colour itself."""
    listed = list(names)
    return {name: shade(colour, i / len(listed)) for i, name in enumerate(listed)}


def _by_number(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts dct/8 before dct/16."""
    return [(part.isdigit(), int(part) if part.isdigit() else 0, part) for part in re.split(r"(\d+)", name)]
