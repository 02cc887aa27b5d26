"""A table of text cells as a LaTeX tabular with booktabs rules: escaped names, typeset units, arrows, signs and products."""

from __future__ import annotations

import re
from collections.abc import Sequence

SPECIAL = {
    "\\": r"\textbackslash{}",
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}
MATH = "\x01"  # begins and ends math while a cell is assembled, so that adjacent formulas can be joined
SYMBOLS = {
    "↑": rf"{MATH}\uparrow{MATH}",
    "↓": rf"{MATH}\downarrow{MATH}",
    "±": rf"{MATH}\pm{MATH}",
    "·": rf"{MATH}\cdot{MATH}",
    "—": "---",
    "…": r"\ldots{}",
}
# 1.2e-05; a minus sign before a digit, but not the hyphen of a name such as l-16; 4x8x8, but not in a name such as pool/4x8x8
NUMBERS = re.compile(
    r"(?P<base>-?\d+(?:\.\d+)?)e(?P<exponent>[+-]\d+)|(?<![\w./-])-(?=\d)|(?<![\w./-])(?P<product>\d+(?:x\d+)+)(?![\w./-])"
)


def tabular(columns: Sequence[str], rows: Sequence[Sequence[str]], emphasis: Sequence[Sequence[bool]]) -> str:
    """LaTeX source that ends with a newline; the first column is left-aligned, all others right-aligned.

    Args:
        columns: titles as plain text, such as "PSNR [dB] ↑"; a title that starts with "$" is LaTeX already
        rows: cells as plain text, such as "31.42 ±0.85"
        emphasis: for each cell, whether its value (the part before the first space) is bold
    """
    lines = ["% needs \\usepackage{booktabs}", rf"\begin{{tabular}}{{l{'r' * (len(columns) - 1)}}}", r"\toprule"]
    lines.append(_row([title if title.startswith("$") else typeset(title) for title in columns]))
    lines.append(r"\midrule")
    for cells, bold in zip(rows, emphasis, strict=True):
        lines.append(_row([_cell(cell, strong) for cell, strong in zip(cells, bold, strict=True)]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


def _row(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"


def _cell(text: str, strong: bool) -> str:
    if not strong:
        return typeset(text)
    value, space, rest = text.partition(" ")
    inner = typeset(value)
    # \textbf does not reach into math
    bold = rf"\textbf{{\boldmath {inner}}}" if "$" in inner else rf"\textbf{{{inner}}}"
    return bold + space + typeset(rest)


def typeset(text: str) -> str:
    """Plain text as LaTeX source.

    >>> print(typeset("toy_a/4x8x8 -0.12 ±1.2e-05"))
    toy\\_a/4x8x8 $-$0.12 $\\pm1.2\\times10^{-5}$
    """
    parts, position = [], 0
    for match in NUMBERS.finditer(text):
        parts += [_escaped(text[position : match.start()]), _number(match)]
        position = match.end()
    whole = "".join([*parts, _escaped(text[position:])])
    return whole.replace(MATH + MATH, "").replace(MATH, "$")


def _number(match: re.Match[str]) -> str:
    if match["base"]:
        formula = rf"{match['base']}\times10^{{{int(match['exponent'])}}}"
    else:
        formula = (match["product"] or "-").replace("x", r"\times")
    return MATH + formula + MATH


def _escaped(text: str) -> str:
    return "".join(SPECIAL.get(character) or SYMBOLS.get(character, character) for character in text)
