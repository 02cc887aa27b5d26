"""What block-wise inference costs: streamed, tiled and chunked inference against whole inference of the same clips.

The scores are signed changes from whole inference, as in the WF-VAE paper's Table 5 (arXiv 2411.17459).  In addition: the
largest difference of pixels and of latents, where it is (over frames, rows and columns, which shows the seams), and the ratios
of time and memory.  Each mode is warmed up before it is timed, once for every shape of clip; its memory is measured then, because
an allocator that shows the memory in use is slow.  The idle share of a GPU is that of one case that is computed once more.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from vaebench import device_idle, plugins, protocol, weights
from vaebench.config import RunConfig
from vaebench.device_idle import StepMeter
from vaebench.inference.differences import differences
from vaebench.inference.modes import Modes
from vaebench.machine import pick_device
from vaebench.options import BlockwiseOptions as Options
from vaebench.records import Score, by_key, interval
from vaebench.scoring import build_metrics, change, metric_code, metric_digests, score, stack
from vaebench.settings import build as build_settings
from vaebench.suite import Case, Demand, Suite, clip_cases, clip_generator, video_setting
from vaebench.timing import memory_is_known, stopwatch
from vaebench.vae import LOSSLESS_TOLERANCE, VAESpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.suite import Candidate, Statistics
    from vaebench.video import Latent, Video


DEFAULT_METRICS = ("psnr", "ssim", "lpips", "fvd")  # of the default protocol; others have their own


class Blockwise(Suite[Modes]):
    name = "blockwise"

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        if config.mode not in ("", "whole"):
            raise ValueError(
                f"mode={config.mode}: the blockwise suite compares all modes with whole inference; leave mode out"
            )
        for name in ("lengths", "chunks", "independent"):
            if any(frames < 1 for frames in getattr(chosen, name)):
                raise ValueError(f"{name}={getattr(chosen, name)} should be numbers of frames, 1 or more each")
        if any(length > config.num_frames for length in chosen.lengths):
            raise ValueError(f"lengths={chosen.lengths} should be at most num_frames={config.num_frames}")
        super().__init__(replace(config, mode=""))  # a record covers all modes
        self.chosen = chosen
        self.device = pick_device(config.device)
        self.protocol = protocol.load(config.protocol)
        self.posterior = config.posterior or self.protocol.posterior
        if chosen.require and self.posterior == "sample":
            raise ValueError(
                "require=lossless compares deterministic results, and here the posterior is sampled; "
                "add posterior=mode, or leave require out"
            )
        self.dtype = config.dtype or self.protocol.dtype
        self.memory_is_known = memory_is_known(self.device)
        self.lengths = list(dict.fromkeys(chosen.lengths)) or [config.num_frames]
        self.names = _metrics(config, chosen)
        self.metrics, self.absent = build_metrics(self.names, self.device, max(self.lengths), config.size)
        self.pictured: set[str] = set()
        self.idle = StepMeter(None)
        self.digests = metric_code(self.names, self.metrics)
        self.identity = {
            "metrics": metric_digests(self.names, self.metrics),
            "protocol": self.protocol.identity,
            **{key: getattr(config, key) for key in ("num_frames", "size")},
            "mode": "whole",  # the reference of the comparison
            **{"posterior": self.posterior, "dtype": self.dtype},
            "seed": config.seed if self.posterior == "sample" else None,
            **{key: getattr(chosen, key) for key in ("lengths", "chunks", "independent")},
        }

    def setting(self, source: VideoSource) -> str:
        """Options that differ from the defaults are part of the name, so that a trial run never replaces a full record."""
        own = [] if self.names == _metrics(self.config, Options()) else ["+".join(map(plugins.label, self.names))]
        own += [
            f"{name}{'+'.join(map(str, given)) or '-none'}"
            for name in ("lengths", "chunks", "independent")
            if (given := getattr(self.chosen, name)) != getattr(Options(), name)
        ]
        return "-".join([video_setting(self.config, source), *own])

    def open(self, candidate: Candidate) -> Modes:
        self.idle = StepMeter(device_idle.profiler_of(self.device))
        dtype = getattr(torch, self.dtype)
        load = partial(candidate.load, device=self.device, dtype=dtype)
        return Modes(load, self.chosen.chunks, self.chosen.independent, share=bool(candidate.name))

    def meter(self, total: int) -> StepMeter:
        return self.idle

    def refusal(self, spec: VAESpec) -> str:
        nothing = "claims no lossless mode, so require=lossless has nothing to test; leave the option or the VAE out"
        return super().refusal(spec) or (nothing if self.chosen.require and not spec.lossless_modes else "")

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        clips, longest = clip_cases(source, self.config), max(self.lengths)
        cases = [
            Case(
                f"{case.id}@{length}", case.clip, {"length": length, "keep": i < self.chosen.keep and length == longest}
            )
            for i, case in enumerate(clips)
            for length in self.lengths
        ]
        self.pictured = {case.id for case in cases if case.params["keep"]}
        return cases

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        return "frames" in names or not case.params["keep"]

    @torch.inference_mode()
    def measure(self, vae: Modes, case: Case) -> Statistics:
        statistics = self._measured(vae, case)
        if self.idle.waits:  # a profiler makes calls slower, so none runs while they are timed
            try:
                for again in self.idle.steps([case], 1):
                    self._measured(vae, again)
            except Exception as error:  # the scores of the case are complete
                reason = " ".join(str(error).split()) or repr(error)
                self.notes.append(f"the idle share of the device was not measured: {reason}")
        return statistics

    def _measured(self, vae: Modes, case: Case) -> Statistics:
        assert case.clip is not None
        length = int(case.params["length"])
        reference = self.protocol.to_model(case.clip.load()[None, :, :length].to(self.device, non_blocking=True))
        peak_bytes = vae.warm_up(reference)
        real = self.protocol.to_score(reference, reference=True)
        clip = case.clip.id
        whole, latent, statistics = self._run(vae, clip, reference, real, "whole")
        whole = whole.clone()  # independent chunks run the same VAE again, which may reuse the memory of its results
        decoded = [_bytes(self.protocol.to_score(whole))] if case.params["keep"] else []
        for label in vae.labels:
            blockwise, z, more = self._run(vae, clip, reference, real, label)
            statistics |= more
            # the decoder alone, on the same latent, as it follows a diffusion model
            same = vae.decode(label, latent.clone()) if label in vae.offered else None
            found = differences(whole, blockwise, latent, z, same)
            statistics |= {f"{name}@{label}": value for name, value in found.items()}
            statistics[f"latent_frames@{label}"] = np.array([latent.shape[2], z.shape[2]])
            if case.params["keep"]:
                decoded.append(_bytes(self.protocol.to_score(blockwise)))
        if case.params["keep"]:
            index = _most_different(decoded)
            shown = np.stack([video[index] for video in decoded])
            statistics["frames"] = np.stack([np.broadcast_to(_bytes(real)[index], shown.shape), shown])
            statistics["frame_index"] = np.array([index])  # an array, because single numbers are scores of the case
        known = self.memory_is_known
        statistics |= {f"bytes@{label}": np.float64(peak if known else "nan") for label, peak in peak_bytes.items()}
        return {"length": np.int64(length), **statistics}

    def _run(
        self, vae: Modes, clip: str, reference: Video, real: Video, label: str
    ) -> tuple[Video, Latent, Statistics]:
        """The reconstruction, its latent, and the time and the metrics of it; short clips skip some metrics.

        `real` is the reference as the metrics see it.  The noise of a sampled posterior is that of the clip in every mode, so
        modes whose latents have one shape get the same draw.
        """
        generator = clip_generator(self.config.seed, clip)
        with stopwatch(self.device) as elapsed:
            reconstruction, latent = vae.reconstruct(label, reference, posterior=self.posterior, generator=generator)
        reconstructed = self.protocol.to_score(reconstruction)
        measured: dict[str, Any] = {}
        for name, metric in self.metrics.items():
            if real.shape[2] < metric.min_frames:
                continue
            curve = metric.by_frame(real, reconstructed)
            if curve is None:
                measured[name] = metric.measure(real, reconstructed)[0].cpu().numpy()
            else:
                measured[f"{name}_by_frame"] = curve[0].cpu().numpy()
                measured[name] = measured[f"{name}_by_frame"].mean()
        measured["seconds"] = np.float64(elapsed.seconds)
        return reconstruction, latent, {f"{name}@{label}": value for name, value in measured.items()}

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        longest = self._longest(statistics)
        whole = {"mode": "whole"}
        scores = [score(name, m, stack(longest, f"{name}@whole"), whole) for name, m in self.metrics.items()]
        for label in _labels(statistics):
            condition = {"mode": label}
            for name, metric in self.metrics.items():
                before, after = stack(longest, f"{name}@whole"), stack(longest, f"{name}@{label}")
                changed = change(name, metric, before, after, condition)
                notes = [note for note in (changed.note, _more_latents(longest, label), _uncut(longest, label)) if note]
                scores.append(replace(changed, note="; ".join(notes)))
            for name in ("pixels_max", "pixels_rms", "latents_max", "latents_rms"):
                everywhere = stack(statistics, f"{name}@{label}")
                value = everywhere.max() if name.endswith("max") else np.sqrt(np.mean(everywhere**2))
                if np.isfinite(value):
                    n = len(statistics)
                    scores.append(Score(float(value), "", "lower", n, metric=name, condition=condition))
            for name, ratio_name in (("seconds", "time"), ("bytes", "memory")):
                before, after = stack(longest, f"{name}@whole"), stack(longest, f"{name}@{label}")
                if before.min() > 0:
                    ratio = after / before
                    # memory is measured once for each shape of clip, so clips show no spread of it
                    spread = interval(ratio) if name == "seconds" else (None, None, None)
                    note = "mean ratio to whole inference, warm, in one process; for accurate costs use the efficiency suite"
                    mean, n = float(ratio.mean()), len(ratio)
                    about: dict[str, Any] = {"note": note, "metric": ratio_name, "condition": condition}
                    scores.append(Score(mean, "ratio", "lower", n, *spread, **about))
        return by_key(scores)

    def _longest(self, statistics: Mapping[str, Statistics]) -> dict[str, Statistics]:
        """The cases of the largest length.  Quality is compared on these, losslessness on all cases."""
        most = max(int(values["length"]) for values in statistics.values())
        return {case: values for case, values in statistics.items() if int(values["length"]) == most}

    def demands(self, spec: VAESpec, statistics: Mapping[str, Statistics]) -> list[Demand]:
        if not self.chosen.require:
            return []
        limit = LOSSLESS_TOLERANCE[self.dtype]
        claimed = [label for label in _labels(statistics) if _claims(spec, label)]
        worst, where = max(
            (np.nan_to_num(values[f"{what}_max@{label}"], nan=np.inf, posinf=np.inf), f"{what} of {label} at {case}")
            for label in claimed
            for what in ("pixels", "latents")
            for case, values in statistics.items()
        )
        over = f"over {len(statistics)} cases"
        if worst <= limit:
            return [
                Demand(True, f"lossless ({', '.join(claimed)}): largest difference {worst:.1e} <= {limit:.0e} {over}")
            ]
        return [Demand(False, f"not lossless: largest difference {worst:.1e} > {limit:.0e} {over} ({where})")]

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        return {
            case: {name: float(value) for name, value in values.items() if value.ndim == 0 and np.isfinite(value)}
            for case, values in statistics.items()
        }

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        """Case id -> uint8 (2, n, H, W, 3): a frame of the clip n times, above the same frame of whole inference and each mode."""
        return {case: statistics[case]["frames"] for case in statistics if case in self.pictured}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Profiles of the difference over frames, rows and columns; every metric by frame and by length; which frames are saved."""
        longest = self._longest(statistics)
        profiles: dict[str, Any] = {"whole": {"metrics": self._by_frame(longest, "whole")}}
        for label in _labels(statistics):
            profiles[label] = {
                name: _plain(np.sqrt(np.mean(stack(longest, f"{name}@{label}"), axis=0)))
                for name in ("by_frame", "by_row", "by_column", "by_step")
            }
            profiles[label]["metrics"] = self._by_frame(longest, label)
        saved = {case: int(values["frame_index"][0]) for case, values in statistics.items() if case in self.pictured}
        return {
            "profiles": profiles,
            "by_length": self._by_length(statistics),
            **({"saved": {"modes": ["whole", *_labels(statistics)], "frame": saved}} if saved else {}),
        }

    def _by_frame(self, longest: Mapping[str, Statistics], label: str) -> dict[str, list[float]]:
        """The mean over clips of the metrics that score single frames or the steps between them."""
        first = next(iter(longest.values()))
        own = [name for name in self.metrics if f"{name}_by_frame@{label}" in first]
        return {name: _plain(stack(longest, f"{name}_by_frame@{label}").mean(axis=0)) for name in own}

    def _by_length(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        lengths = sorted({int(values["length"]) for values in statistics.values()})
        own = [name for name, metric in self.metrics.items() if metric.per_clip]
        groups = [[k for k in statistics.values() if int(k["length"]) == length] for length in lengths]
        curves: dict[str, Any] = {"lengths": lengths}
        for label in ("whole", *_labels(statistics)):
            curves[label] = {name: [_mean(group, f"{name}@{label}") for group in groups] for name in own}
            if self.memory_is_known:
                curves[label]["bytes"] = [float(np.median([k[f"bytes@{label}"] for k in group])) for group in groups]
        return curves


def _metrics(config: RunConfig, chosen: Options) -> list[str]:
    """Names of the metrics of a run: the chosen ones, or those of its protocol."""
    if chosen.metrics:
        return chosen.metrics
    # flicker is left out by default: the profile `by_step` shows where a mode flickers
    return list(DEFAULT_METRICS if config.protocol == "default" else protocol.load(config.protocol).metrics)


def _labels(statistics: Mapping[str, Statistics]) -> list[str]:
    first = next(iter(statistics.values()))
    return [name.partition("@")[2] for name in first if name.startswith("pixels_max@")]


def _more_latents(longest: Mapping[str, Statistics], label: str) -> str:
    """A note if a mode has another number of latent frames than whole inference, so that their compression differs.

    Independent chunks of a causal VAE each start with a frame that has a latent frame of its own.
    """
    counts = {tuple(int(n) for n in values[f"latent_frames@{label}"]) for values in longest.values()}
    pairs = [f"{ours} latent frames instead of {whole}" for whole, ours in sorted(counts) if whole != ours]
    return f"{label} has {' or '.join(pairs)} in whole inference, so its compression differs" if pairs else ""


def _uncut(longest: Mapping[str, Statistics], label: str) -> str:
    """A note if no clip is longer than an independent chunk, so that the mode is whole inference."""
    kind, _, frames = label.partition("-")
    if kind != "independent" or any(int(values["length"]) > int(frames) for values in longest.values()):
        return ""
    return f"{label} cuts nothing: each clip fits into one chunk"


def _bytes(video: Video) -> NDArray:
    """(1, 3, T, H, W) in 0..1 -> uint8 (T, H, W, 3)."""
    return video[0].mul(255).round().byte().permute(1, 2, 3, 0).cpu().numpy()


def _most_different(decoded: list[NDArray]) -> int:
    """The frame in which a mode has the largest RMS difference to whole inference, which is the first video; 0 if all are equal."""
    whole = decoded[0].astype(np.float32)
    errors = [np.square(video - whole).mean(axis=(1, 2, 3)) for video in decoded[1:]]
    return int(np.max(errors, axis=0).argmax()) if errors else 0


def _mean(group: list[Statistics], name: str) -> float | None:
    """None if these clips are too short for the metric."""
    values = [case[name] for case in group if name in case]
    return float(np.mean(values)) if values else None


def _claims(spec: VAESpec, label: str) -> bool:
    return label in spec.lossless_modes or (label.startswith("chunks-") and "streamed" in spec.lossless_modes)


def _plain(values: NDArray) -> list[float]:
    return [float(value) for value in values]


def weight_files(config: RunConfig) -> list[str]:
    """Names of the weight files that the metrics of a run read."""
    chosen = build_settings(Options, config.options)
    configs = [replace(config, protocol=one.name) for one in protocol.load_all(config.protocol)]
    return weights.used_by([name for own in configs for name in _metrics(own, chosen)])


def build(config: RunConfig) -> Blockwise:
    return Blockwise(config, build_settings(Options, config.options))
