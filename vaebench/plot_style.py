"""Colours, fonts and output formats of figures; the same records always give the same bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

from vaebench.files import file_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

    from vaebench.records import Record

# the palette of Okabe and Ito, which is safe for colour-blind readers; markers distinguish the series in grey print
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

SMALL = 3.0  # radius of a marker in typographic points

COMMON = {
    "figure.constrained_layout.use": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "svg.hashsalt": "vaebench",  # otherwise the ids in an SVG are random
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",  # ships with matplotlib: the same glyphs on every machine
}
STYLES = {
    "screen": {"figure.dpi": 110, "savefig.dpi": 160, "font.size": 10},
    "paper": {
        "figure.dpi": 110,
        "savefig.dpi": 300,
        "font.size": 8,
        "axes.titlesize": 8,
        "legend.fontsize": 7,
    },
}
METADATA = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


def check_formats(formats: Sequence[str]) -> None:
    """Raises ValueError if a format is not one of png, svg and pdf."""
    if unknown := set(formats) - set(METADATA):
        raise ValueError(f"no format {', '.join(sorted(unknown))} (available: {', '.join(METADATA)})")


@contextmanager
def applied(style: str) -> Iterator[None]:
    """Apply a style of STYLES and a backend without display for the length of the block."""
    mpl.use("Agg")
    with mpl.rc_context({**COMMON, **STYLES[style]}):
        yield


def untrained(record: Record) -> bool:
    """Whether the weights are random, so that the quality says nothing about the VAE."""
    return record.vae.get("weights") == "random"


def vae_name(record: Record) -> str:
    """The name of the VAE for figures of quality, followed by "(untrained)" if its weights are random."""
    return f"{record.vae['name']} (untrained)" if untrained(record) else str(record.vae["name"])


def look(names: list[str]) -> dict[str, dict[str, str]]:
    """Name -> colour and marker; figures with the same names use the same ones."""
    ordered = sorted(names)
    return {
        name: {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[(i // len(COLOURS) + i) % len(MARKERS)]}
        for i, name in enumerate(ordered)
    }


def shade(colour: str, lightness: float) -> str:
    """A colour mixed with white.

    Args:
        colour: "#rrggbb"
        lightness: 0 for the colour itself, 1 for the lightest shade that is still visible on white
    """
    channels = [int(colour[i : i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(value + 0.6 * lightness * (255 - value)):02x}" for value in channels)


def plain_log(axis: Axis, few: bool = False) -> None:
    """Label a logarithmic axis with plain numbers at 1, 2, 5 of each decade, or at decades only if labels would overlap.

    `few` reduces the number of labels for small panels.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    low, high = axis.get_view_interval()
    wide = high / max(low, 1e-30) > (30 if few else 300)
    subs = (1.0,) if wide else (1.0, 3.0) if few else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=subs, numticks=5 if few and wide else None))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


def label_points(
    axes: Axes, xs: list[float], ys: list[float], labels: list[str], radii: list[float] | None = None
) -> None:
    """Put a label beside each point, inside the axes and without overlapping other labels or other markers where possible.

    Args:
        xs: horizontal positions in data coordinates
        ys: vertical positions in data coordinates
        radii: radius of each marker in typographic points; None: SMALL
    """
    from matplotlib.text import Text

    figure = axes.get_figure()
    assert figure is not None
    figure.canvas.draw()  # the layout decides where the axes are
    placed: list[Any] = []
    markers = _boxes(axes, xs, ys, radii or [SMALL] * len(xs))
    order = sorted(range(len(xs)), key=lambda i: (ys[i], xs[i]))
    for i in order:
        for dx, dy in _offsets(8 + (radii[i] if radii else 0)):
            text = axes.annotate(
                labels[i], (xs[i], ys[i]), xytext=(dx, dy), textcoords="offset points", fontsize="x-small",
                ha="left" if dx >= 0 else "right", va="center",
                arrowprops={"arrowstyle": "-", "lw": 0.4, "color": "grey"} if abs(dy) > 10 else None,
            )  # fmt: skip
            renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
            box = text.get_window_extent(renderer).padded(1)  # of the label and its line
            label = Text.get_window_extent(text, renderer)
            inside = axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
            covered = any(label.overlaps(marker) for marker in [*markers[:i], *markers[i + 1 :]])
            if inside and not covered and not any(box.overlaps(other) for other in placed):
                placed.append(box)
                break
            text.remove()
        else:
            aside = (8 + (radii[i] if radii else 0), 0)
            axes.annotate(
                labels[i], (xs[i], ys[i]), xytext=aside, textcoords="offset points", fontsize="x-small", va="center"
            )


def _boxes(axes: Axes, xs: list[float], ys: list[float], radii: list[float]) -> list[Any]:
    """The boxes around markers, in pixels."""
    from matplotlib.transforms import Bbox

    points = axes.transData.transform(list(zip(xs, ys, strict=True)))
    sizes = [radius * axes.figure.dpi / 72 for radius in radii]  # of a typographic point
    return [Bbox([[x - r, y - r], [x + r, y + r]]) for (x, y), r in zip(points, sizes, strict=True)]


def _offsets(aside: float) -> Iterator[tuple[float, float]]:
    """Candidate offsets of a label in typographic points, nearest first."""
    for step in range(14):
        for sign in (1, -1) if step else (1,):
            for dx in (aside, -aside):
                yield dx, sign * 9.0 * step


def save(figure: Figure, out: Path, stem: str, formats: tuple[str, ...]) -> Iterator[Path]:
    """Write the figure as `stem`.png, `stem`.svg, ... into the folder `out`, yield each file, and close the figure."""
    import matplotlib.pyplot as plt

    for form in formats:
        file = out / f"{file_name(stem)}.{form}"
        figure.savefig(file, metadata=METADATA[form])
        yield file
    plt.close(figure)
