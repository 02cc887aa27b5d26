"""Figures of the latent suite: spectra, eigenvalues, autocorrelation and noise curves of several VAEs in one plot each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vaebench import plot_style, records
from vaebench.plots import _looks
from vaebench.records import Record
from vaebench.titles import setting_title
from vaebench.typed import members, typed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes

    Looks = dict[str, dict[str, str]]

MARKED = 16  # longest curve with markers
CURVE = {"mean": list[float], "low": list[float | None], "high": list[float | None]}
SUBBANDS = {"share": list[float], "entropy_bits": list[float]}


def settings(root: Path) -> dict[str, list[Record]]:
    """Setting -> records of the latent suite.

    Raises:
        ValueError: a curve is invalid; the message names the file and the field
    """
    groups: dict[str, list[Record]] = {}
    for record in records.read_all(root, "latent"):
        groups.setdefault(record.setting, []).append(_checked(root, record))
    return groups


def _checked(root: Path, record: Record) -> Record:
    """Return `record` if its curves can be drawn.

    Raises:
        ValueError: a curve is invalid; the message names the file and the field
    """
    extra = record.extra
    parts = dict.fromkeys(("space", "time", "autocorrelation", "eigenvalues", "subbands", "decoder"), dict[str, Any])
    try:
        members(parts, extra, "extra")
        for name in ("space", "time"):
            _check_lines(extra[name], ("frequency", "power"), f"extra.{name}")
        members(dict.fromkeys("tyx", list[float]), extra["autocorrelation"], "extra.autocorrelation")
        members({"raw": list[float]}, extra["eigenvalues"], "extra.eigenvalues")
        if "denoising" in extra:
            _check_lines(extra["denoising"], ("sigma", "mmse"), "extra.denoising")
        if "zigzag" in extra:
            members({"zigzag": list[float]}, extra, "extra")
        _check_decoder(extra["decoder"])
        _check_subbands(extra["subbands"])
        _check_saved(extra.get("saved", {}))
    except ValueError as reason:
        raise records.invalid(root, record, str(reason)) from None
    return record


def _check_lines(curve: Any, names: Sequence[str], field: str) -> None:
    members(dict.fromkeys(names, list[float]), curve, field)
    if len({len(curve[name]) for name in names}) > 1:
        raise ValueError(f"{field} should have lists of one length, got {[len(curve[name]) for name in names]}")


def _check_decoder(curves: dict[str, Any]) -> None:
    field = "extra.decoder"
    members({"noise": list[float], "masks": list[float], "psnr": dict[str, Any]}, curves, field)
    lengths = dict.fromkeys(("added", "added_self", "mixed", "mixed_self"), len(curves["noise"]))
    for name, length in {"psnr": 1, **lengths, "masked": len(curves["masks"])}.items():
        if not length:
            continue
        members({name: dict[str, Any]}, curves, field)
        members(CURVE, curves[name], f"{field}.{name}")
        if any(len(curves[name][end]) != length for end in CURVE):
            raise ValueError(f"{field}.{name} should have lists of {length} values")


def _check_subbands(bands: dict[str, Any]) -> None:
    field = "extra.subbands"
    members({"names": list[str], "latents": dict[str, Any], "pixels": dict[str, Any]}, bands, field)
    for kind in ("latents", "pixels"):
        if bands[kind]:
            members(SUBBANDS, bands[kind], f"{field}.{kind}")
            if any(len(bands[kind][name]) != len(bands["names"]) for name in SUBBANDS):
                raise ValueError(f"{field}.{kind} should have lists of {len(bands['names'])} values, as names has")


def _check_saved(frames: Any) -> None:
    for case, index in typed(dict[str, list[int]], frames, "extra.saved").items():
        if len(index) != 2:
            raise ValueError(f"extra.saved.{case} should have two numbers of frames, got {index}")


def _lines(
    axes: Axes, group: list[Record], looks: Looks, curves: Mapping[str, tuple[Sequence[float], Sequence[float]]]
) -> None:
    """One line per VAE: name -> x and y.  Only short curves have markers."""
    for record in group:
        x, y = curves.get(record.name, ((), ()))
        if len(x):
            look = looks[record.vae["name"]]
            style = look if len(x) <= MARKED else {"color": look["color"]}
            axes.plot(x, y, label=plot_style.vae_name(record), lw=1.2, ms=3.5, **style)  # type: ignore[arg-type]


def legend(figure: Figure, axes: Axes) -> None:
    """Put the legend of `axes` below the figure."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize="small")


def spectra(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Power of standardized latents against spatial and temporal frequency, and along the 3D zigzag."""
    looks = _looks.of_vaes(root)
    for setting, group in settings(root).items():
        figure, grid = plt.subplots(1, 3, figsize=(10.5, 3.6))
        for axes, part in ((grid[0], "space"), (grid[1], "time")):
            _lines(axes, group, looks, {r.name: (r.extra[part]["frequency"], r.extra[part]["power"]) for r in group})
            axes.axhline(1, color="grey", lw=0.8, ls=":")
        grid[0].set_xlabel("spatial frequency [Nyquist] (log scale)")
        grid[0].set_xscale("log")
        grid[1].set_xlabel("temporal frequency [Nyquist]")
        _lines(
            grid[2],
            group,
            looks,
            {r.name: (range(len(z)), z) for r in group if (z := r.extra.get("zigzag"))},
        )
        grid[2].set_xlabel("3D zigzag index")
        grid[0].set_ylabel("power; white noise has 1 (log scale)")
        grid[2].set_ylabel("power relative to index 0 (log scale)")
        log(grid[0].xaxis)
        for axes in grid:
            axes.set_yscale("log")
        log(*(axes.yaxis for axes in grid if axes.lines))
        figure.suptitle(f"{setting_title(group[0])}: DCT spectra of standardized latents", fontsize="medium")
        legend(figure, grid[0])
        yield f"spectra-{setting}", figure


def log(*axes: Any) -> None:
    """Label logarithmic axes with few plain numbers."""
    for axis in axes:
        plot_style.plain_log(axis, few=True)


def eigenspectra(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Cumulative variance of the principal components of channels, and the error of a Gaussian denoiser against noise."""
    looks = _looks.of_vaes(root)
    for setting, group in settings(root).items():
        figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 3.6))
        shares = {r.name: np.array(r.extra["eigenvalues"]["raw"]) for r in group}
        curves = {name: np.cumsum(values) / values.sum() for name, values in shares.items() if values.sum() > 0}
        _lines(left, group, looks, {name: (range(1, len(y) + 1), y.tolist()) for name, y in curves.items()})
        left.set_xlabel("principal component of the channels")
        left.set_ylabel("cumulative share of the variance")
        left.set_ylim(0, 1.03)
        denoising = {r.name: r.extra["denoising"] for r in group if "denoising" in r.extra}
        _lines(right, group, looks, {name: (d["sigma"], d["mmse"]) for name, d in denoising.items()})
        right.set_xlabel("noise [standard deviations] (log scale)")
        right.set_ylabel("error relative to white latents")
        right.set_xscale("log")
        right.set_ylim(0, 1.03)
        log(right.xaxis)
        figure.suptitle(f"{setting_title(group[0])}: channels, and the best linear denoiser", fontsize="medium")
        legend(figure, left)
        yield f"eigenspectra-{setting}", figure


def autocorrelation(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """Autocorrelation of standardized latents against the lag in time, along columns and along rows."""
    looks = _looks.of_vaes(root)
    for setting, group in settings(root).items():
        figure, grid = plt.subplots(1, 3, figsize=(10.5, 3.4), sharey=True)
        for axes, axis, words in zip(grid, "tyx", ("time", "columns", "rows"), strict=True):
            curves = {r.name: r.extra["autocorrelation"][axis] for r in group}
            _lines(axes, group, looks, {name: (range(len(y) + 1), [1.0, *y]) for name, y in curves.items()})
            axes.axhline(np.exp(-1), color="grey", lw=0.8, ls=":")
            axes.set_xlabel(f"lag along {words} [latent positions]")
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        grid[0].set_ylabel("autocorrelation; dotted: 1/e")
        figure.suptitle(f"{setting_title(group[0])}: autocorrelation of standardized latents", fontsize="medium")
        legend(figure, grid[0])
        yield f"autocorrelation-{setting}", figure


def noise_curves(root: Path, style: str) -> Iterator[tuple[str, Figure]]:
    """PSNR of decoded videos against noise on the latents (added and mixed) and against the share of masked positions."""
    looks = _looks.of_vaes(root)
    for setting, group in settings(root).items():
        some = [record for record in group if record.extra["decoder"]["noise"] or record.extra["decoder"]["masks"]]
        if not some:
            continue
        figure, grid = plt.subplots(1, 3, figsize=(10.5, 3.8))
        for axes, name, words in ((grid[0], "added", "added noise"), (grid[1], "added_self", "added noise")):
            for record in some:
                _band(axes, record, looks, name, record.extra["decoder"]["noise"])
            axes.set_xlabel(f"{words} [standard deviations] (log scale)")
        for record in some:
            curves = record.extra["decoder"]
            if curves["noise"]:
                colour = looks[record.vae["name"]]["color"]
                grid[0].plot(curves["noise"], curves["mixed"]["mean"], color=colour, lw=0.9, ls="--")
                grid[0].axhline(curves["psnr"]["mean"][0], color=colour, lw=0.6, ls=":")
            _band(grid[2], record, looks, "masked", curves["masks"], (0.0, curves["psnr"]))
        grid[0].set_ylabel("PSNR against the clip [dB] (higher is better)")
        grid[0].set_title("dashed: (1 - s) z + s noise; dotted: no noise", fontsize="x-small", loc="left")
        grid[1].set_ylabel("PSNR against the decoded latent [dB]")
        grid[2].set_ylabel("PSNR against the clip [dB] (higher is better)")
        grid[2].set_xlabel("share of positions replaced by the mean")
        for axes in grid[:2]:
            if axes.lines:
                axes.set_xscale("log")
                log(axes.xaxis)
        figure.suptitle(
            f"{setting_title(group[0])}: tolerance of the decoders, mean and 95 % interval over clips",
            fontsize="medium",
        )
        legend(figure, grid[0] if grid[0].lines else grid[2])
        yield f"noise_curves-{setting}", figure


def _band(
    axes: Axes, record: Record, looks: Looks, name: str, x: list[float], start: tuple[float, Any] | None = None
) -> None:
    """The mean of a curve with its interval; `start` is a point in front of it."""
    if not x:
        return
    curve = record.extra["decoder"][name]
    if start is not None:
        x = [start[0], *x]
        curve = {end: [start[1][end][0], *curve[end]] for end in CURVE}
    look = looks[record.vae["name"]]
    axes.plot(x, curve["mean"], label=plot_style.vae_name(record), lw=1.2, ms=3.5, **look)  # type: ignore[arg-type]
    if None not in curve["low"] and None not in curve["high"]:
        axes.fill_between(x, curve["low"], curve["high"], color=look["color"], alpha=0.12, lw=0)


FIGURES = (spectra, eigenspectra, autocorrelation, noise_curves)
