"""Drift: how far the frames of a long video move from the source when windows hand them over through a VAE, hop by hop.

Systems that generate minutes of video continue from the last frames of the window before, so the VAE decodes and encodes these
frames once per window.  Part of the drift is not the VAE: 8-bit truncation, a blur and H.264 lose quality with a perfect codec
too.  So each clip also goes through an identity VAE; its scores are the `_floor`, and `_excess` is the VAE's score minus the floor.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import torch

from adapters import identity
from vaebench import frame_size, weights
from vaebench.config import RunConfig
from vaebench.machine import pick_device
from vaebench.options import RelayOptions as Options
from vaebench.records import Better, Score, by_key, interval
from vaebench.relay import pixels
from vaebench.relay.content import Timeline
from vaebench.relay.measure import SHOWN, measure
from vaebench.relay.protocols import relay
from vaebench.relay.summaries import DROP, FIRST, hops_to_drop, slope
from vaebench.scoring import build_metrics, metric_code, metric_digests, stack
from vaebench.settings import build as build_settings
from vaebench.suite import Case, Suite, clip_cases, clip_generator, video_setting
from vaebench.vae import VAESpec, VideoVAE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.suite import Statistics


METRICS = ("psnr", "ssim", "lpips")
CURVES = ("shift", "delta_e", "high_frequency", "latent_drift", "cycle", "seam")
FLOOR = "floor "  # begins the names of the statistics of the identity VAE


class Summary(NamedTuple):
    """A number per clip, from the curves of one VAE: name -> (N,) or (N, 3)."""

    unit: str
    better: Better
    of_clip: Callable[[Mapping[str, NDArray]], float]


def _grey(curves: Mapping[str, NDArray]) -> NDArray:
    """(N, 3) -> (N,) mean shift over colours in 8-bit levels."""
    return curves["shift"].mean(axis=1)


def _at(name: str, hop: int, curves: Mapping[str, NDArray]) -> float:
    """The value of a curve at the hop of this index; -1 is the last one."""
    return float(curves[name][hop])


SUMMARIES = {
    "psnr_first": Summary("dB", "higher", partial(_at, "psnr", 0)),
    "psnr_last": Summary("dB", "higher", partial(_at, "psnr", -1)),
    "ssim_last": Summary("", "higher", partial(_at, "ssim", -1)),
    "lpips_last": Summary("", "lower", partial(_at, "lpips", -1)),
    "db_per_hop": Summary("dB", "lower", lambda curves: -slope(curves["psnr"])),
    "levels_per_hop": Summary("levels", "neither", lambda curves: slope(_grey(curves))),
    "colour_last": Summary("levels", "lower", lambda curves: float(np.abs(curves["shift"][-1]).max())),
    "delta_e_last": Summary("", "lower", partial(_at, "delta_e", -1)),
    "high_frequency_last": Summary("", "neither", partial(_at, "high_frequency", -1)),
    "latent_drift_last": Summary("", "lower", partial(_at, "latent_drift", -1)),
    "cycle_last": Summary("", "lower", partial(_at, "cycle", -1)),
    "seam_last": Summary("dB", "higher", partial(_at, "seam", -1)),
}
SUMMARIZED = ("db_per_hop", "levels_per_hop", "hops_to_3db")
COLUMNS = (
    *("psnr_first", "psnr_last", "psnr_last_floor", "lpips_last"),
    *(f"{name}{part}" for name in SUMMARIZED for part in ("", "_floor", "_excess")),
)


class Relay(Suite[VideoVAE]):
    name = "relay"
    measures_idle = True
    unused: ClassVar[Mapping[str, str]] = {
        "protocol": "the relay suite scores 8-bit pixels; choose the pixel operations of a hop with protocols=NAME"
    }

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        names = list(dict.fromkeys(chosen.protocols))
        if not names:
            raise ValueError("protocols=[] is an empty list: name at least one protocol, such as protocols=loop")
        self.relays = {name: relay(name, chosen.window) for name in names}
        odd = [name for name, made in self.relays.items() if "x264" in made.handover.operations]
        if odd and any(side % 2 for side in frame_size.parse(config.size)):
            raise ValueError(
                f"size={config.size}: {', '.join(odd)} compresses frames with H.264, which needs an even size"
            )
        self.chosen = chosen
        self.device = pick_device(config.device)
        self.dtype = config.dtype or "float32"
        self.metrics, self.absent = build_metrics(METRICS, self.device, config.num_frames, config.size)
        self.digests = metric_code(METRICS, self.metrics)
        self.floor = identity.tiny()
        self.pictured: set[str] = set()
        self.identity = {
            "metrics": metric_digests(METRICS, self.metrics),
            **{key: getattr(config, key) for key in ("num_frames", "size", "mode", "posterior", "seed")},
            "dtype": self.dtype,
            **{key: getattr(chosen, key) for key in ("hops", "content", "window")},
        }
        self.columns = list(COLUMNS)

    def setting(self, source: VideoSource) -> str:
        """Options that differ from the defaults are part of the name."""
        default = Options()
        own = [] if list(self.relays) == default.protocols else ["+".join(self.relays)]
        own += [f"hops{self.chosen.hops}"] if self.chosen.hops != default.hops else []
        own += [self.chosen.content] if self.chosen.content != default.content else []
        samples = [made for made in self.relays.values() if made.handover.posterior == "sample"]
        own += [f"seed{self.config.seed}"] if self.config.seed and samples and not self.config.posterior else []
        own += [f"window{self.chosen.window}"] if any(made.note for made in self.relays.values()) else []
        return "-".join([video_setting(self.config, source), *own])

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        clips = clip_cases(source, self.config)
        cases = [
            Case(f"{clip.id}@{name}", clip.clip, {"protocol": name, "keep": i < self.chosen.keep})
            for i, clip in enumerate(clips)
            for name in self.relays
        ]
        self.pictured = {case.id for case in cases if case.params["keep"]}
        return cases

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        return "frames" in names or not case.params["keep"]

    @torch.inference_mode()
    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        assert case.clip is not None
        made = self.relays[case.params["protocol"]]
        stored = case.clip.load().to(self.device, non_blocking=True)
        source = pixels.source(stored, made.handover.operations).unsqueeze(0)  # (1, 3, T, H, W) in -1..1
        statistics: Statistics = {}
        frames = []
        for prefix, codec in (("", vae), (FLOOR, self.floor)):
            timeline = Timeline(source, made, self.chosen.content)
            generator = clip_generator(self.config.seed, case.id)
            measured = measure(
                codec, timeline, self.chosen.hops, self.metrics, posterior=self.config.posterior, generator=generator
            )
            frames.append(measured.pop("frames"))
            statistics |= {f"{prefix}{name}": values for name, values in measured.items()}
        if case.params["keep"]:
            statistics["frames"] = np.stack(frames[::-1])  # the floor above the VAE
        return {**statistics, "source_frames": np.int64(source.shape[2])}

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        scores: list[Score] = []
        for name in self.relays:
            group = self._of(statistics, name)
            if group:
                scores += self._scores(name, group)
        return by_key(scores)

    def _of(self, statistics: Mapping[str, Statistics], name: str) -> dict[str, Statistics]:
        """The statistics of the clips of one protocol."""
        return {case: values for case, values in statistics.items() if case.rpartition("@")[2] == name}

    def _scores(self, name: str, group: Mapping[str, Statistics]) -> list[Score]:
        """All scores of one protocol: the VAE's, the floor, and the excess over the floor."""
        condition, note = {"protocol": name}, self._note(name, group)
        scores: list[Score] = []
        for metric, summary in SUMMARIES.items():
            if metric.removesuffix("_last") in self.absent:
                continue
            own = np.array([summary.of_clip(_curves(values)) for values in group.values()])
            floor = np.array([summary.of_clip(_curves(values, FLOOR)) for values in group.values()])
            missing = self._undefined(metric, name)
            for part, values in (("", own), ("_floor", floor), ("_excess", own - floor)):
                of_part = (
                    summary._replace(better="neither") if part == "_floor" else summary
                )  # it says nothing of the VAE
                signed = part == "_excess" or metric == "levels_per_hop"
                # one score has the note about the window: the others of this protocol have the same condition
                noted = note if metric == "psnr_first" and not part else ""
                scores.append(_score(f"{metric}{part}", values, of_part, condition, noted, missing, signed))
            if metric == "levels_per_hop":
                scores += self._hops_to_drop(condition, group)
        return scores

    def _note(self, name: str, group: Mapping[str, Statistics]) -> str:
        """What readers must know about the window of a protocol: that it is shortened, or longer than the clips."""
        made, notes = self.relays[name], [self.relays[name].note]
        frames = min(int(values["source_frames"]) for values in group.values())
        if frames < made.window and not made.handover.still:
            rest = "repeat its last frame" if self.chosen.content == "copy" else "play it backwards and forwards"
            notes.append(f"the clip has {frames} frames, fewer than the window of {made.window}: the others {rest}")
        return "; ".join(filter(None, notes))

    def _undefined(self, metric: str, name: str) -> str:
        """Why a summary has no value."""
        if metric in ("db_per_hop", "levels_per_hop"):
            return f"needs {FIRST + 1} hops, this run has {self.chosen.hops}"
        if metric == "high_frequency_last":
            return "the reference has no high frequencies"
        return "nothing is encoded again" if self.relays[name].latents else f"needs {FIRST} hops"

    def _hops_to_drop(self, condition: Mapping[str, str], group: Mapping[str, Statistics]) -> list[Score]:
        """The hops until a loss of 3 dB, of the mean curve: a clip that never loses 3 dB has no number of its own."""
        own, floor = (hops_to_drop(stack(group, f"{prefix}psnr").mean(axis=0)) for prefix in ("", FLOOR))
        scores: list[Score] = []
        for part, value in (("", own), ("_floor", floor), ("_excess", own - floor)):
            given = float(value) if np.isfinite(value) else None
            missing = f"PSNR stays within {DROP:g} dB of hop 1 for {self.chosen.hops} hops" if given is None else ""
            scores.append(
                Score(given, "hops", "neither" if part == "_floor" else "higher", len(group), signed=part == "_excess",
                      note=missing, metric=f"hops_to_3db{part}", condition=condition, status="undefined" if given is None else "ok")
            )  # fmt: skip
        return scores

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        """The summaries of each clip and protocol, with their floors."""
        rows: dict[str, dict[str, float]] = {}
        for case, values in statistics.items():
            row = {
                f"{metric}{part}": summary.of_clip(_curves(values, prefix))
                for metric, summary in SUMMARIES.items()
                if metric.removesuffix("_last") not in self.absent
                for part, prefix in (("", ""), ("_floor", FLOOR))
            }
            rows[case] = {name: value for name, value in row.items() if np.isfinite(value)}
        return rows

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        return {case: statistics[case]["frames"] for case in statistics if case in self.pictured}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Curves over hops, mean over clips, and how each protocol was run."""
        curves: dict[str, Any] = {}
        protocols: dict[str, Any] = {}
        for name, made in self.relays.items():
            if not (group := self._of(statistics, name)):
                continue
            names = [*self.metrics, *CURVES, "overlap_error"]
            curves[name] = {of: _mean(group, of) for of in names}
            curves[name]["floor"] = {of: _mean(group, f"{FLOOR}{of}") for of in names if of != "overlap_error"}
            protocols[name] = {
                **asdict(made),
                "note": made.note,
                "timeline_frames": made.window + (self.chosen.hops - 1) * made.step,
                "source_frames": min(int(values["source_frames"]) for values in group.values()),
            }
        return {"curves": curves, "protocols": protocols, "hops_shown": [n for n in SHOWN if n <= self.chosen.hops]}


def _curves(values: Statistics, prefix: str = "") -> dict[str, NDArray]:
    """The curves of the VAE, or with FLOOR those of the identity VAE, by name."""
    return {name.removeprefix(prefix): of for name, of in values.items() if name.startswith(prefix)}


def _score(
    metric: str,
    values: NDArray,
    summary: Summary,
    condition: Mapping[str, str],
    note: str,
    missing: str,
    signed: bool,
) -> Score:
    """The mean over clips with its interval; clips without a value are left out."""
    about: dict[str, Any] = {"metric": metric, "condition": condition, "signed": signed}
    valid = values[np.isfinite(values)]
    if not len(valid):
        return Score(None, summary.unit, summary.better, 0, note=missing, status="undefined", **about)
    if len(valid) < len(values):
        note = "; ".join(part for part in (note, f"{len(values) - len(valid)} clips left out: {missing}") if part)
    spread = interval(valid)
    return Score(float(valid.mean()), summary.unit, summary.better, len(valid), *spread, note=note, **about)


def _mean(group: Mapping[str, Statistics], name: str) -> list[Any]:
    """The mean of a curve over clips, as lists; None where no clip has a value."""
    values = stack(group, name)
    counts = np.isfinite(values).sum(axis=0)
    sums = np.where(np.isfinite(values), values, 0).sum(axis=0)
    mean = np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)
    return [_plain(row) for row in mean]


def _plain(row: Any) -> Any:
    if np.ndim(row):
        return [_plain(value) for value in row]
    return float(row) if np.isfinite(row) else None


def weight_files(config: RunConfig) -> list[str]:
    """Names of the weight files that the metrics of a run read."""
    return weights.used_by(METRICS)


def build(config: RunConfig) -> Relay:
    return Relay(config, build_settings(Options, config.options))
