"""Tokens, latent sizes, attention cost and windows of a video of any duration; computed from the specs, no network is run.

The whole video is one clip, as if the denoiser saw all of it at once.  VAEs of a system with a long-video protocol
(`vaebench.long_video`) also have a row per protocol: its windows, the hops between them, and the tokens of all windows, in which
the carried frames count again.  Rows of one video may differ in their frame rate, which every row states.  Attention cost is the
number of pairs of tokens that full self-attention compares, N**2 for N tokens; the systems with cheaper attention cost less.

    121 frames of 512x768 through 8x32x32: 16 x 16 x 24 latent positions; with patch 1x1x1, 6144 tokens
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

import adapters
from vaebench import denoisers, frame_size, long_video
from vaebench.config import RunConfig
from vaebench.denoisers import Denoiser, Patch
from vaebench.long_video import Plan
from vaebench.options import TokensOptions as Options
from vaebench.records import Score, by_key
from vaebench.settings import build as build_settings
from vaebench.suite import Candidate, Case, Suite
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from vaebench.data import VideoSource
    from vaebench.frame_size import FrameSize
    from vaebench.suite import Statistics

FPS = 24.0
SECONDS = [5.0, 60.0]
DURATIONS = (1, 2, 3, 5, 8, 10, 15, 20, 30, 45, 60, 90, 120)  # of the figure, in seconds
CURVES = ("tokens", "attention", "windows")
BITS = 16  # of a latent element in bfloat16
# score -> its unit
UNITS = {
    "tokens": "tokens",
    "token_rate": "tokens/s",
    "attention": "pairs",
    "pixels_per_token": "px",
    "windows": "windows",
    "hops": "hops",
    "frame_rate": "frames/s",
    "frames": "frames",
    "latent_frames": "frames",
    "latent_height": "positions",
    "latent_width": "positions",
    "element_ratio": "",
    "element_ratio_limit": "",
    "bits_per_pixel": "",  # as that of a codec: the name has the unit
}
LOWER = ("tokens", "token_rate", "attention")
COLUMNS = ["tokens", "token_rate", "attention", "pixels_per_token", "windows", "hops", "frame_rate", "frames"]
COLUMNS += ["latent_frames", "element_ratio", "bits_per_pixel"]


class Grid(NamedTuple):
    """The latent positions of a clip, and its tokens."""

    frames: int  # of the video, valid for the VAE
    height: int  # pixels
    width: int
    latent: tuple[int, int, int]  # latent frames, rows, columns
    tokens: int


def grid(spec: VAESpec, patch: Patch, frames: int, size: FrameSize) -> Grid:
    """The latent of `frames` frames of height x width pixels; lengths and sizes are rounded up to valid ones."""
    frames = spec.fit(frames)
    height, width = (-(-side // spec.size_multiple) * spec.size_multiple for side in size)
    *_, t, h, w = spec.latent_shape((1, 3, frames, height, width))
    tokens = math.prod(math.ceil(count / step) for count, step in zip((t, h, w), patch, strict=True))
    return Grid(frames, height, width, (t, h, w), tokens)


def clip_numbers(spec: VAESpec, patch: Patch, frames: int, size: FrameSize, fps: float) -> dict[str, float]:
    """Score -> value for a whole video of `frames` frames; without the windows of a protocol."""
    made = grid(spec, patch, frames, size)
    pixels, elements = made.frames * made.height * made.width, spec.latent_channels * math.prod(made.latent)
    limit = 3 * spec.tcpr / spec.latent_channels
    t, h, w = made.latent
    return {
        "tokens": made.tokens,
        "token_rate": made.tokens * fps / made.frames,
        "attention": made.tokens**2,
        "pixels_per_token": pixels / made.tokens,
        "windows": 1,
        "hops": 0,
        "frame_rate": fps,
        "frames": made.frames,
        "latent_frames": t,
        "latent_height": h,
        "latent_width": w,
        "element_ratio": 3 * pixels / elements,
        "element_ratio_limit": limit,
        "bits_per_pixel": BITS * elements / pixels,
    }


def window_numbers(spec: VAESpec, patch: Patch, plan: Plan, size: FrameSize) -> dict[str, float]:
    """Score -> value for a video in windows; tokens and attention are summed over the windows."""
    protocol = plan.protocol
    lengths = [
        window.length if protocol.handover == "pixels" else protocol.rule.stride * (window.length - 1) + 1
        for window in plan.windows
    ]
    tokens = [grid(spec, patch, length, size).tokens for length in lengths]
    return {
        "tokens": sum(tokens),
        "token_rate": sum(tokens) / plan.seconds,
        "attention": sum(count**2 for count in tokens),
        "windows": len(plan.windows),
        "hops": plan.hops,
        "frame_rate": plan.protocol.fps,
        "frames": plan.frames,
    }


class Tokens(Suite[VAESpec]):
    name = "tokens"
    needs_weights = False
    runs_network = False
    unused: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            *("num_frames", "size", "data", "root", "manifest", "reader", "fetch", "clips", "weights"),
            *("protocol", "posterior", "mode", "dtype", "seed", "tf32", "cudnn_benchmark"),
        ),
        "the tokens suite reads no clips and runs no network; choose shapes with seconds=, frames= and frame_size=",
    )

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        for name in ("seconds", "frames"):
            if any(not (math.isfinite(value) and value > 0) for value in getattr(chosen, name)):
                raise ValueError(f"{name}={getattr(chosen, name)} should be more than 0 each")
        if not (math.isfinite(chosen.fps) and chosen.fps >= 0):
            raise ValueError(f"fps={chosen.fps:g} should be more than 0, or 0 for the default")
        if chosen.seconds and chosen.frames:
            raise ValueError(f"seconds={chosen.seconds} and frames={chosen.frames}: give seconds= or frames=, not both")
        self.chosen = chosen if chosen.seconds or chosen.frames else replace(chosen, seconds=SECONDS)
        self.size = frame_size.parse(chosen.frame_size, "frame_size")
        self.patch = _patch(chosen.patch) if chosen.patch else None
        self.fps = chosen.fps or FPS
        self.identity = {**asdict(self.chosen), "durations": DURATIONS}
        self.columns = COLUMNS

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        """One name per network: variants that differ only in their weights have the same tokens."""
        distinct: dict[tuple[object, ...], str] = {}
        for name in names:
            spec = adapters.find(name)
            shape = (spec.compression, spec.latent_channels, str(spec.frames), spec.size_multiple)
            distinct.setdefault((spec.family, *shape, denoisers.of(spec)), name)
        return list(distinct.values())

    def setting(self, source: VideoSource) -> str:
        """Options that differ from the defaults are part of the name."""
        parts = [f"{self.size.height}x{self.size.width}"]
        parts += [f"frames{_joined(self.chosen.frames)}"] if self.chosen.frames else []
        seconds = _joined(self.chosen.seconds)
        parts += [f"seconds{seconds}"] if seconds not in ("", _joined(SECONDS)) else []
        parts += [f"{self.chosen.fps:g}fps"] if self.chosen.fps else []
        parts += [f"patch{'x'.join(map(str, self.patch))}"] if self.patch else []
        return "-".join(parts)

    def open(self, candidate: Candidate) -> VAESpec:
        return candidate.spec

    def denoiser(self, spec: VAESpec) -> Denoiser:
        """The denoiser of a VAE, with the patch of the run if one is set."""
        known = denoisers.of(spec)
        return Denoiser(known.system, self.patch, known.protocols) if self.patch else known

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        return [Case("all")]

    def measure(self, vae: VAESpec, case: Case) -> Statistics:
        """`rows` (R,) and `values` (R, C) of `names` (C,), NaN where a row lacks a score; `notes` (R, C); the curves."""
        rows = self._rows(vae)
        table = {label: self._numbers(vae, protocol, length) for label, (protocol, length) in rows.items()}
        notes = [self._notes(vae, protocol, length) for protocol, length in rows.values()]
        return {
            "rows": np.asarray(list(table)),
            "names": np.asarray(list(UNITS)),
            # a pair count may exceed 64 bits, which NumPy can only hold as float or object
            "values": np.asarray(
                [[row.get(name, np.nan) for name in UNITS] for row in table.values()], dtype=np.float64
            ),
            "notes": np.asarray([[row.get(name, "") for name in UNITS] for row in notes]),
            **self._curves(vae),
        }

    def _rows(self, spec: VAESpec) -> dict[str, tuple[str, dict[str, Any]]]:
        """Label of a row -> protocol, "" for the whole video, and the wanted length."""
        lengths: dict[str, dict[str, Any]] = (
            {f"{count} frames": {"frames": count} for count in self.chosen.frames}
            if self.chosen.frames
            else {f"{duration:g} s": {"seconds": duration} for duration in self.chosen.seconds}
        )
        protocols = ("", *self.denoiser(spec).protocols)
        return {f"{label} {name}".strip(): (name, length) for label, length in lengths.items() for name in protocols}

    def _numbers(self, spec: VAESpec, protocol: str, length: Mapping[str, Any]) -> dict[str, float]:
        patch = self.denoiser(spec).patch
        if protocol:
            return window_numbers(spec, patch, self._plan(protocol, length), self.size)
        # a product such as 0.1 * 30 may exceed the integer by its rounding error
        frames = length["frames"] if "frames" in length else math.ceil(length["seconds"] * self.fps - 1e-9)
        return clip_numbers(spec, patch, frames, self.size, self.fps)

    def _plan(self, protocol: str, length: Mapping[str, Any]) -> Plan:
        if "frames" in length:
            return long_video.plan(protocol, at_least=length["frames"], fps=self.chosen.fps)
        return long_video.plan(protocol, seconds=length["seconds"], fps=self.chosen.fps)

    def _notes(self, spec: VAESpec, protocol: str, length: Mapping[str, Any]) -> dict[str, str]:
        """Score -> the rule behind it."""
        if protocol:
            used = self._plan(protocol, length).protocol
            carried = f"windows of {used.window} {used.unit}, {used.overlap} of them carried over as {used.handover}"
            return {"windows": f"{protocol}: {carried}; {used.fps:g} frames/s"}
        denoiser = self.denoiser(spec)
        patch = f"patch {'x'.join(map(str, denoiser.patch))} (latent frames, rows, columns)"
        if self.patch is None and not denoiser.system:
            patch = f"no denoiser was released for these latents: {patch} is assumed; patch= sets another"
        return {"tokens": patch, "frames": f"valid numbers of frames: {spec.frames}"}

    def _curves(self, spec: VAESpec) -> Statistics:
        """Curve -> values at DURATIONS, and the denoiser."""
        stored: dict[str, list[float]] = {"seconds": list(DURATIONS)}
        denoiser = self.denoiser(spec)
        for protocol in ("", *denoiser.protocols):
            rows = [self._numbers(spec, protocol, {"seconds": seconds}) for seconds in DURATIONS]
            stored |= {f"{protocol or 'whole'} {name}": [row[name] for row in rows] for name in CURVES}
        known = {"system": np.asarray(denoiser.system), "patch": np.asarray(denoiser.patch)}
        return {name: np.asarray(values, dtype=np.float64) for name, values in stored.items()} | known

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        stored = statistics["all"]
        table = zip(stored["rows"], stored["values"], stored["notes"], strict=True)
        return by_key(
            Score(float(value), UNITS[name], "lower" if name in LOWER else "neither", 1, note=str(note), metric=str(name),
                  condition={"video": str(row)})
            for row, values, notes in table
            for name, value, note in zip(stored["names"], values, notes, strict=True)
            if not np.isnan(value)
        )  # fmt: skip

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """`denoiser`: its system and patch; `curves`: values over `seconds`, of the whole video and of each protocol."""
        stored = statistics["all"]
        denoiser = {"system": str(stored["system"]), "patch": stored["patch"].tolist()}
        table = ("rows", "names", "values", "notes")
        curves = {name: values.tolist() for name, values in stored.items() if name not in (*table, *denoiser)}
        return {"denoiser": denoiser, "curves": curves}


def _joined(lengths: Iterable[float]) -> str:
    """Lengths in ascending order, such as "5+60"."""
    return "+".join(f"{length:.12g}" for length in sorted(set(lengths)))


def _patch(text: str) -> Patch:
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise ValueError(f"patch={text!r} should be latent frames x rows x columns of one token, such as 1x2x2")
    t, h, w = map(int, match.groups())
    return t, h, w


def build(config: RunConfig) -> Tokens:
    return Tokens(config, build_settings(Options, config.options))
