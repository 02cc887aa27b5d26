"""The figures of `vaebench plot` as inline SVG that follows the colours of the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from markupsafe import escape

from vaebench import plot_style, plots

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# the colours of text, axes and background become those of the page; data keep their own
THEMED = (
    ("stroke: #000000", "stroke: currentColor"),
    ("fill: #000000", "fill: currentColor"),
    ("fill: #ffffff", "fill: var(--paper)"),
    ("stroke: #ffffff", "stroke: var(--paper)"),
)


@dataclass(frozen=True)
class Drawing:
    kind: str  # name of the figure, such as "per_clip"
    caption: str
    stem: str  # name of the file that `vaebench plot` writes
    svg: str


def draw(root: Path, say: Callable[[str], object]) -> Iterator[Drawing]:
    """Draw every figure of the records in `root`; `say` is called with a message for each that is incomplete."""
    import matplotlib.pyplot as plt

    count = 0
    with plot_style.applied("screen"):
        for kind, function in plots.figures().items():
            caption = plots.first_sentence(function.__doc__ or kind)
            try:
                for stem, figure in function(root, "screen"):
                    yield Drawing(kind, caption, stem, _svg(figure, f"f{count}-", f"{caption} ({stem})"))
                    plt.close(figure)
                    count += 1
            except plots.Incomplete as missing:
                missing.tell(kind, say)


def _svg(figure: Figure, prefix: str, title: str) -> str:
    """The figure as an `<svg>` element whose ids start with `prefix`, so that figures of one page do not share them."""

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata=plot_style.METADATA["svg"])
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}", text)
    for before, after in THEMED:
        text = text.replace(before, after)
    width, height = (re.search(rf'\b{side}="([\d.]+)pt"', text) for side in ("width", "height"))
    assert width
    assert height
    pixels = float(width[1]) * 4 / 3
    text = text.replace(width[0], "", 1).replace(height[0], "", 1)  # the view box gives the proportions
    return text.replace("<svg", f'<svg role="img" aria-label="{escape(title)}" style="max-width: {pixels:.0f}px"', 1)
