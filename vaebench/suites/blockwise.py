"""What block-wise inference costs: each VAE whole against streamed, tiled or cut in pieces, on the same clips.

The scores are changes against the whole, with signs, as in the WF-VAE paper's Table 5 (arXiv 2411.17459), and what that table
cannot show: how far pixels and latents move at worst, where (over frames, rows and columns: the seams), and what is saved.
Each way is warmed up before it is timed, once for every shape of clip.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import adapters
from vaebench.config import RunConfig, options
from vaebench.machine import peak_memory, pick_device, return_freed_memory, stopwatch
from vaebench.profiling.worker import networks
from vaebench.results import Score, interval
from vaebench.scoring import build_metrics, change, score, stack
from vaebench.suite import Case, Demand, clip_cases, video_setting
from vaebench.vae import (
    LOSSLESS_TOLERANCE,
    Posterior,
    StreamingVAE,
    VAESpec,
    VideoVAE,
    reconstruct,
)
from vaebench.video import to_model, to_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.suite import Statistics
    from vaebench.video import Latent, Video


@dataclass(frozen=True)
class Options:
    metrics: list[str] = field(default_factory=lambda: ["psnr", "ssim", "lpips", "fvd"])  # see `vaebench list metrics`
    lengths: list[int] = field(default_factory=list)  # clip lengths to evaluate, in frames; default: num_frames only
    pieces: list[int] = field(default_factory=list)  # also stream in chunks of N frames, if the VAE can stream
    naive: list[int] = field(default_factory=lambda: [16])  # also independent chunks of N frames (or the next valid N)
    require: str = ""  # "lossless": exit with code 1 if a mode that claims to be lossless is not


class Pieces:
    """A streaming VAE fed in pieces of `frames` frames, and of as many latents as they hold."""

    def __init__(self, vae: StreamingVAE, frames: int) -> None:
        self.vae, self.spec, self.frames = vae, vae.spec, frames

    def encode(self, video: Video) -> Posterior:
        found = list(self.vae.encode_stream(video.split(self.frames, dim=2)))
        logvars = [q.logvar for q in found if q.logvar is not None]
        return Posterior(torch.cat([q.mean for q in found], dim=2), torch.cat(logvars, dim=2) if logvars else None)

    def decode(self, latent: Latent) -> Video:
        latents = max(1, self.frames // self.spec.temporal_compression)
        return torch.cat(list(self.vae.decode_stream(latent.split(latents, dim=2))), dim=2)


class Blockwise:
    name = "blockwise"
    version = 3
    needs_weights = True

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        if chosen.require not in ("", "lossless"):
            raise ValueError(f"require={chosen.require!r} is not 'lossless'")
        if config.mode not in ("", "whole"):
            raise ValueError("the blockwise suite runs every mode of a VAE against its whole; leave mode out")
        if config.protocol != "default" or config.posterior:
            raise ValueError(
                "the blockwise suite decodes the posterior's mode and scores as the default protocol does; "
                "leave protocol and posterior out"
            )
        for name in ("lengths", "pieces", "naive"):
            if any(frames < 1 for frames in getattr(chosen, name)):
                raise ValueError(f"{name} counts frames, from 1 up, got {getattr(chosen, name)}")
        if any(length > config.num_frames for length in chosen.lengths):
            raise ValueError(f"lengths go up to num_frames={config.num_frames}, got {max(chosen.lengths)}")
        self.config, self.chosen = replace(config, mode=""), chosen  # its records are of all modes
        self.device = pick_device(config.device)
        self.dtype = config.dtype or "float32"
        self.memory_is_known = self.device.type == "cuda" or return_freed_memory()
        self.lengths = list(dict.fromkeys(chosen.lengths)) or [config.num_frames]
        self.metrics, self.absent = build_metrics(chosen.metrics, self.device, max(self.lengths))
        self.identity = {
            "metrics": {name: metric.version for name, metric in self.metrics.items()},
            **{key: getattr(config, key) for key in ("num_frames", "size")},
            "mode": "whole",  # with which the others are compared
            "dtype": self.dtype,
            **{key: getattr(chosen, key) for key in ("lengths", "pieces", "naive")},
        }

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        return list(names)

    def setting(self, source: VideoSource) -> str:
        """Choices of one's own stand apart, so that a try never takes the place of a full record."""
        lists = {name: getattr(self.chosen, name) for name in ("metrics", "lengths", "pieces", "naive")}
        own = [
            f"{'' if name == 'metrics' else name}{'+'.join(map(str, given)) or '-none'}"
            for name, given in lists.items()
            if given != getattr(Options(), name)
        ]
        return "-".join([video_setting(self.config, source), *own])

    def open(self, name: str) -> _Modes:
        return _Modes(name, self.config, self.chosen, self.device)

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        if self.chosen.require and not spec.lossless_modes:
            raise ValueError(
                f"{spec.name} claims no lossless mode, so require=lossless would test nothing; leave one out"
            )
        clips = clip_cases(source, self.config)
        return [Case(f"{case.id}@{length}", case.clip) for case in clips for length in self.lengths]

    @torch.inference_mode()
    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        assert isinstance(vae, _Modes)
        assert case.clip is not None
        length = int(case.id.rpartition("@")[2])
        reference = to_model(case.clip.load()[:, :length].to(self.device)).unsqueeze(0)
        vae.warm_up(reference)
        whole, latent, kept = self._run(vae.whole, reference, "whole")
        whole = whole.clone()  # independent chunks run the same VAE again, which may reuse the memory of its results
        for label in vae.labels:
            got, z, more = self._run(vae.get(label), reference, label)
            kept |= more
            # the decoder on its own, on the same latent: what a user of a diffusion model sees
            same = vae.get(label).decode(latent.clone()) if label in vae.offered else None
            kept |= {f"{name}@{label}": value for name, value in differences(whole, got, latent, z, same).items()}
        return {"length": np.int64(length), **kept}

    def _run(self, vae: VideoVAE, reference: Video, label: str) -> tuple[Video, Latent, Statistics]:
        """Reconstruct, with the time and memory it takes and the statistic of every metric that can score so few frames."""
        with peak_memory(self.device) as peak, stopwatch(self.device) as elapsed:
            reconstruction, latent = _reconstruct(vae, reference)
        seen, got = to_score(reference), to_score(reconstruction)
        kept: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            if seen.shape[2] < metric.min_frames:
                continue
            curve = metric.by_frame(seen, got)
            if curve is None:
                kept[name] = metric.measure(seen, got)[0].cpu().numpy()
            else:
                kept[f"{name}_by_frame"] = curve[0].cpu().numpy()
                kept[name] = kept[f"{name}_by_frame"].mean()
        cost = {"seconds": np.float64(elapsed.seconds)}
        cost["bytes"] = np.float64(peak.above_bytes if self.memory_is_known else "nan")
        return reconstruction, latent, {f"{name}@{label}": value for name, value in {**kept, **cost}.items()}

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        longest = self._longest(statistics)
        scores = {f"{name}@whole": score(m, stack(longest, f"{name}@whole")) for name, m in self.metrics.items()}
        for label in _labels(statistics):
            for name, metric in self.metrics.items():
                before, after = stack(longest, f"{name}@whole"), stack(longest, f"{name}@{label}")
                scores[f"{name}@{label}"] = change(metric, before, after)
            for name in ("pixels_max", "pixels_rms", "latents_max", "latents_rms"):
                everywhere = stack(statistics, f"{name}@{label}")
                value = everywhere.max() if name.endswith("max") else np.sqrt(np.mean(everywhere**2))
                if np.isfinite(value):
                    scores[f"{name}@{label}"] = Score(float(value), "", "lower", len(statistics))
            for name, unit in (("seconds", "time"), ("bytes", "memory")):
                before, after = stack(longest, f"{name}@whole"), stack(longest, f"{name}@{label}")
                if before.min() > 0:
                    ratio = after / before
                    stderr, low, high = interval(ratio)
                    note = "mean ratio to the whole, in one process, warm; the efficiency suite measures cost properly"
                    scores[f"{unit}@{label}"] = Score(
                        float(ratio.mean()), "ratio", "lower", len(ratio), stderr, low, high, note=note
                    )
        return scores

    def _longest(self, statistics: Mapping[str, Statistics]) -> dict[str, Statistics]:
        """The cases of full length: quality is compared on these, losslessness on all."""
        most = max(int(kept["length"]) for kept in statistics.values())
        return {case: kept for case, kept in statistics.items() if int(kept["length"]) == most}

    def demands(self, spec: VAESpec, statistics: Mapping[str, Statistics]) -> list[Demand]:
        if not self.chosen.require:
            return []
        limit = LOSSLESS_TOLERANCE[self.dtype]
        claimed = [label for label in _labels(statistics) if _claims(spec, label)]
        worst, where = max(
            (np.nan_to_num(kept[f"{what}_max@{label}"], nan=np.inf, posinf=np.inf), f"{what} of {label} at {case}")
            for label in claimed
            for what in ("pixels", "latents")
            for case, kept in statistics.items()
        )
        over = f"over {len(statistics)} cases"
        if worst <= limit:
            return [
                Demand(True, f"lossless ({', '.join(claimed)}): largest difference {worst:.1e} <= {limit:.0e} {over}")
            ]
        return [Demand(False, f"not lossless: largest difference {worst:.1e} > {limit:.0e} {over} ({where})")]

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        return {
            case: {name: float(value) for name, value in kept.items() if value.ndim == 0 and np.isfinite(value)}
            for case, kept in statistics.items()
        }

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        return {}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Profiles of the difference over frames, rows and columns; every metric by frame, and by length of the clip."""
        longest = self._longest(statistics)
        profiles: dict[str, Any] = {"whole": {"metrics": self._by_frame(longest, "whole")}}
        for label in _labels(statistics):
            profiles[label] = {
                name: _plain(np.sqrt(np.mean(stack(longest, f"{name}@{label}"), axis=0)))
                for name in ("by_frame", "by_row", "by_column", "by_step")
            }
            profiles[label]["metrics"] = self._by_frame(longest, label)
        return {"profiles": profiles, "by_length": self._by_length(statistics)}

    def _by_frame(self, longest: Mapping[str, Statistics], label: str) -> dict[str, list[float]]:
        """Mean over clips of the metrics that score single frames, or the steps between them."""
        first = next(iter(longest.values()))
        own = [name for name in self.metrics if f"{name}_by_frame@{label}" in first]
        return {name: _plain(stack(longest, f"{name}_by_frame@{label}").mean(axis=0)) for name in own}

    def _by_length(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        lengths = sorted({int(kept["length"]) for kept in statistics.values()})
        own = [name for name, metric in self.metrics.items() if metric.per_clip]
        groups = [[k for k in statistics.values() if int(k["length"]) == length] for length in lengths]
        curves: dict[str, Any] = {"lengths": lengths}
        for label in ("whole", *_labels(statistics)):
            curves[label] = {name: [_mean(group, f"{name}@{label}") for group in groups] for name in own}
            if self.memory_is_known:
                curves[label]["bytes"] = [float(np.median([k[f"bytes@{label}"] for k in group])) for group in groups]
        return curves


class _Modes:
    """A VAE in its whole mode, and the ways to run it block-wise, each loaded when it is first needed."""

    def __init__(self, name: str, config: RunConfig, chosen: Options, device: torch.device) -> None:
        self.name, self.config, self.device = name, config, device
        self.whole = self._load("whole")
        self.spec = self.whole.spec
        self.encode, self.decode = self.whole.encode, self.whole.decode
        pieces = chosen.pieces if isinstance(self.whole, StreamingVAE) else []
        self.offered = [mode for mode in self.spec.modes if mode != "whole"] + [f"pieces-{n}" for n in pieces]
        self.labels = [*self.offered, *dict.fromkeys(f"naive-{self.spec.fit(n)}" for n in chosen.naive)]
        self.loaded: dict[str, VideoVAE] = {}
        self.warm: set[tuple[int, ...]] = set()  # shapes of clips

    def warm_up(self, reference: Video) -> None:
        """Run every way once for each shape of clip: first calls load kernels and grow pools, whichever way is first."""
        if tuple(reference.shape) not in self.warm:
            for label in ("whole", *self.labels):
                _reconstruct(self.get(label), reference)
            self.warm.add(tuple(reference.shape))

    def _load(self, mode: str) -> VideoVAE:
        dtype = getattr(torch, self.config.dtype or "float32")
        return adapters.load(self.name, weights=self.config.weights, device=self.device, dtype=dtype, mode=mode)

    def get(self, label: str) -> VideoVAE:
        """The VAE as `label` runs it: "whole", another of its modes, "pieces-4" or "naive-16"."""
        if label == "whole":
            return self.whole
        kind, _, number = label.partition("-")
        if kind == "naive":
            return _Naive(self.whole, int(number))
        if kind == "pieces":
            assert isinstance(self.whole, StreamingVAE)
            return Pieces(self.whole, int(number))
        if label not in self.loaded:
            with torch.inference_mode(False):
                self.loaded[label] = share_weights(self._load(label), self.whole)
        return self.loaded[label]


class _Naive:
    """What users try: every piece of frames by itself, as if it were a video.  Its latent is that of no video."""

    def __init__(self, vae: VideoVAE, frames: int) -> None:
        self.vae, self.spec, self.frames = vae, vae.spec, vae.spec.fit(frames)
        self.encode, self.decode = vae.encode, vae.decode

    def reconstruct(self, video: Video) -> tuple[Video, Latent]:
        pixels, latents = [], []
        for piece in video.split(self.frames, dim=2):
            found, latent = reconstruct(self.vae, piece)
            pixels.append(found.clone())  # the next call may reuse the memory of this one's result
            latents.append(latent)
        return torch.cat(pixels, dim=2), torch.cat(latents, dim=2)


def _reconstruct(vae: VideoVAE, reference: Video) -> tuple[Video, Latent]:
    if isinstance(vae, _Naive):
        return vae.reconstruct(reference)
    return reconstruct(vae, reference)


def share_weights(vae: VideoVAE, other: VideoVAE) -> VideoVAE:
    """`vae`, whose parameters lie where equal ones of `other` lie: all modes of a VAE take the memory of one."""
    for mine, theirs in zip(networks(vae), networks(other), strict=False):
        known = dict(theirs.named_parameters())
        for name, parameter in mine.named_parameters():
            same = known.get(name)
            if same is not None and same.dtype == parameter.dtype and torch.equal(same, parameter):
                parameter.data = same.data
    return vae


def differences(whole: Video, got: Video, latent: Latent, z: Latent, same: Video | None) -> Statistics:
    """How a block-wise reconstruction `got` and latent `z` differ from the whole's; `same` decodes the whole's latent.

    Videos (1, 3, T, H, W), latents (1, c, t, h, w); maxima relative to the larger of 1 and the largest value.  The mean squares
    by frame, row, column and time step have their seams where block-wise inference has them.
    """
    error = got - whole
    square = error.square()
    steps = (error[:, :, 1:] - error[:, :, :-1]).square()  # flicker that the whole does not have
    worst = relative(whole, got)
    if same is not None:
        worst = max(worst, relative(whole, same[:, :, : whole.shape[2], : whole.shape[3], : whole.shape[4]]))
    comparable = latent.shape == z.shape
    found: dict[str, Any] = {
        "pixels_max": worst,
        "pixels_rms": float(square.mean().sqrt()),
        "latents_max": relative(latent, z) if comparable else float("nan"),
        "latents_rms": float((latent - z).square().mean().sqrt()) if comparable else float("nan"),
        "by_frame": square.mean(dim=(0, 1, 3, 4)),
        "by_row": square.mean(dim=(0, 1, 2, 4)),
        "by_column": square.mean(dim=(0, 1, 2, 3)),
        "by_step": steps.mean(dim=(0, 1, 3, 4)),
    }
    return {k: np.asarray(v.cpu().numpy() if isinstance(v, Tensor) else v) for k, v in found.items()}


def relative(a: Tensor, b: Tensor) -> float:
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))


def _labels(statistics: Mapping[str, Statistics]) -> list[str]:
    first = next(iter(statistics.values()))
    return [name.partition("@")[2] for name in first if name.startswith("pixels_max@")]


def _mean(group: list[Statistics], name: str) -> float | None:
    """None where these clips are too short for the metric."""
    found = [kept[name] for kept in group if name in kept]
    return float(np.mean(found)) if found else None


def _claims(spec: VAESpec, label: str) -> bool:
    return label in spec.lossless_modes or (label.startswith("pieces-") and "streamed" in spec.lossless_modes)


def _plain(values: NDArray) -> list[float]:
    return [float(value) for value in values]


def build(config: RunConfig) -> Blockwise:
    return Blockwise(config, options(Options, config.options))
