"""Reconstruction quality: encode and decode each clip and score the reconstruction against the original."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench import keep, plugins, protocol, weights
from vaebench.config import RunConfig
from vaebench.fingerprint import code, fingerprint
from vaebench.kept_video import Pair
from vaebench.machine import pick_device
from vaebench.options import ReconstructionOptions as Options
from vaebench.records import BITS, Score, interval
from vaebench.scoring import build_metrics, change, metric_code, metric_digests, score, stack
from vaebench.settings import build as build_settings
from vaebench.suite import Case, Suite, clip_cases, clip_generator, video_setting
from vaebench.vae import CodedVAE, VAESpec, VideoVAE, decode_as, reconstruct

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.suite import Candidate, Statistics
    from vaebench.video import Latent, Video


class Reconstruction(Suite[VideoVAE]):
    name = "reconstruction"
    measures_idle = True
    codecs = True

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        if chosen.sizes:
            raise ValueError(f"sizes={chosen.sizes} gives a record per size: use `vaebench run`, or one size= per call")
        self.keep, self.pictured = keep.parse(chosen.keep), set[str]()
        self.keep_video, self.filmed = keep.parse(chosen.keep_video, "keep_video"), set[str]()
        self.keep_latents = chosen.keep_latents
        self.device = pick_device(config.device)
        self.protocol = protocol.load(config.protocol)
        self.posterior = config.posterior or self.protocol.posterior
        self.dtype = config.dtype or self.protocol.dtype
        self.chosen = list(dict.fromkeys(chosen.metrics)) or list(self.protocol.metrics)
        self.metrics, self.absent = build_metrics(self.chosen, self.device, config.num_frames, config.size or 1)
        if not self.metrics:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in self.absent.items())
            raise ValueError(f"none of the metrics can be computed here: {reasons}")
        # the key of a stored statistic includes the code and the weights of its metric; those of other versions are ignored
        digests = metric_digests(self.chosen, self.metrics)
        self.keys = {name: f"{name}.{digest}" for name, digest in digests.items()}
        self.digests = metric_code(self.chosen, self.metrics)
        ranking = [name for name, metric in self.metrics.items() if metric.per_clip and metric.better != "neither"]
        for kept in (self.keep, self.keep_video):
            if kept.worst and not ranking:
                raise ValueError(
                    f"{kept.setting}=worst:{kept.worst} needs a metric that scores single clips, such as metrics=psnr"
                )
        self._ranking = ranking[0] if ranking else ""
        self.identity = {
            "protocol": self.protocol.identity,
            **{key: getattr(config, key) for key in ("num_frames", "size", "mode")},
            **{"posterior": self.posterior, "dtype": self.dtype},
            "seed": config.seed if self.posterior == "sample" else None,
        }
        self.shares = {
            **{name: getattr(self.protocol, name) for name in ("resize", "pixels", "input_codec")},
            **{name: self.identity[name] for name in ("posterior", "dtype", "seed")},
        }

    def setting(self, source: VideoSource) -> str:
        # another choice of metrics is part of the name, so that a trial run never replaces a full record
        own = [] if self.chosen == list(self.protocol.metrics) else ["+".join(map(self._label, self.chosen))]
        return "-".join([video_setting(self.config, source), *own])

    def _label(self, metric: str) -> str:
        """The name of a metric in a setting; that of a file ends in digits of its code, for another version is another metric."""
        name = plugins.label(metric)
        if name == metric:
            return name
        key = self.keys.get(name)  # an unavailable metric has none
        digits = key.rpartition(".")[2] if key else fingerprint(code([plugins.find("metrics", metric)]))
        return f"{name}-{digits[:6]}"

    def open(self, candidate: Candidate) -> VideoVAE:
        return candidate.load(self.config.mode, device=self.device, dtype=getattr(torch, self.dtype))

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        cases = clip_cases(source, self.config)
        ids = [case.id for case in cases]
        self.pictured, self.filmed = self.keep.chosen(ids), self.keep_video.chosen(ids)
        return [
            replace(case, params=_to_save(case, self.pictured, self.filmed) | {"codec": spec.codec}) for case in cases
        ]

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        needed = {*self.keys.values(), *(["frames"] if case.params["keep"] else [])}
        needed |= {"latent"} if self.keep_latents else set()
        needed |= {"video", "fps"} if case.params["keep_video"] else set()
        needed |= {BITS} if case.params["codec"] else set()
        return needed <= set(names)

    @torch.inference_mode()
    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        assert case.clip is not None
        if not case.shared:  # another protocol may have done it
            reference = self.protocol.to_model(
                case.clip.load().to(self.device).unsqueeze(0)
            )  # (1, 3, T, H, W) in -1..1
            reconstruction, latent = self._reconstruct(vae, reference, case)
            case.shared.update(reference=reference, reconstruction=reconstruction, latent=latent)
        reference, reconstruction, latent = (case.shared[name] for name in ("reference", "reconstruction", "latent"))
        real = self.protocol.to_score(reference, reference=True)
        reconstructed = self._scored(reconstruction)
        statistics = {
            self.keys[name]: metric.measure(real, reconstructed)[0].cpu().numpy()
            for name, metric in self.metrics.items()
            if self.keys[name] not in case.stored
        }
        if own := getattr(vae, "own", None):  # a cross of two VAEs is compared with the decoder of the one that encodes
            if "by_own" not in case.shared:
                case.shared["by_own"] = decode_as(own, reference, latent)
            got_by_own = self._scored(case.shared["by_own"])
            statistics |= {
                f"own {self.keys[name]}": metric.measure(real, got_by_own)[0].cpu().numpy()
                for name, metric in self.metrics.items()
                if self.keys[name] not in case.stored
            }
        if isinstance(vae, CodedVAE):
            pixels = reference.shape[2:].numel()  # of all frames
            statistics[BITS] = np.float64(int(vae.bits(latent)[0]) / pixels)
        if case.params["keep"]:
            last = real.shape[2] - 1
            statistics["frames"] = _frames(real, reconstructed, sorted({0, (last + 1) // 2, last}))
        if case.params["keep_video"]:
            statistics["video"] = _frames(real, reconstructed, range(real.shape[2]))
            statistics["fps"] = np.float64(case.clip.fps)
        if self.keep_latents:
            statistics["latent"] = latent.cpu().numpy()
        return statistics

    def _scored(self, reconstruction: Video) -> Video:
        """float (1, 3, T, H, W) in -1..1 -> float32 in 0..1, the input of the metrics."""
        return self.protocol.to_score(reconstruction)

    def _reconstruct(self, vae: VideoVAE, reference: Video, case: Case) -> tuple[Video, Latent]:
        """The reconstruction and its latent.  If the latent is stored, only the decoder runs."""
        if "latent" in case.stored:
            latent = torch.from_numpy(case.stored["latent"]).to(self.device)
            return decode_as(vae, reference, latent), latent
        generator = clip_generator(self.config.seed, case.id)
        return reconstruct(vae, reference, posterior=self.posterior, generator=generator)

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        scores = {
            name: score(name, metric, stack(statistics, self.keys[name])) for name, metric in self.metrics.items()
        }
        for name, metric in self.metrics.items():
            key = self.keys[name]
            if all(f"own {key}" in values for values in statistics.values()):
                before, after = stack(statistics, f"own {key}"), stack(statistics, key)
                versus = f"{name}_vs_own_decoder"
                scores[versus] = change(versus, metric, before, after)
        if any(BITS in values for values in statistics.values()):
            rates = stack(statistics, BITS)
            spread = interval(rates)
            scores[BITS] = Score(rates.mean(), "", "neither", len(rates), *spread, metric=BITS)
        return scores

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        own = [name for name, metric in self.metrics.items() if metric.per_clip]
        keys = {name: self.keys[name] for name in own} | {BITS: BITS}
        return {
            case: {name: float(values[key]) for name, key in keys.items() if key in values}
            for case, values in statistics.items()
        }

    def revisit(self, cases: Sequence[Case], statistics: Mapping[str, Statistics]) -> list[Case]:
        """The worst clips (`keep=worst:N`) whose frames are not stored."""
        pictured, filmed = (set(self._worst(kept, statistics)) for kept in (self.keep, self.keep_video))
        asked = [
            replace(case, params={**case.params, **_to_save(case, pictured, filmed)}, stored=statistics[case.id])
            for case in cases
            if case.id in statistics
        ]
        return [case for case in asked if not self.is_complete(case, case.stored.keys())]

    def _worst(self, kept: keep.Keep, statistics: Mapping[str, Statistics]) -> list[str]:
        """The ids of the worst clips by the first metric that scores single clips; [] without `worst:N`."""
        if not kept.worst:
            return []
        name = self._ranking
        scores = {clip: float(values[self.keys[name]]) for clip, values in statistics.items()}
        return kept.worst_of(scores, self.metrics[name].better)

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        shown = self.pictured | set(self._worst(self.keep, statistics))
        return {case: values["frames"] for case, values in statistics.items() if case in shown and "frames" in values}

    def videos(self, statistics: Mapping[str, Statistics]) -> dict[str, Pair]:
        shown = self.filmed | set(self._worst(self.keep_video, statistics))
        kept = {case: values for case, values in statistics.items() if case in shown and "video" in values}
        return {case: Pair(values["video"], float(values["fps"])) for case, values in kept.items()}


def _to_save(case: Case, pictured: Collection[str], filmed: Collection[str]) -> dict[str, bool]:
    """The parameters of a case: whether frames and whether a video are saved."""
    return {"keep": case.id in pictured, "keep_video": case.id in filmed}


def _frames(real: Video, reconstructed: Video, indices: Sequence[int]) -> NDArray:
    """(1, 3, T, H, W) in 0..1, twice -> uint8 (2, n, H, W, 3): the frames of both with these indices."""
    both = torch.cat([real, reconstructed])[:, :, list(indices)].mul(255).round().byte()
    return both.permute(0, 2, 3, 4, 1).cpu().numpy()


def runs(config: RunConfig) -> list[RunConfig]:
    """The runs of a run with `sizes=`: one per size, each with its own record; of any other run, the run itself.

    Raises:
        ValueError: a size is invalid or given twice, or both `size` and `sizes` are set
    """
    chosen = build_settings(Options, config.options)
    if not chosen.sizes:
        return [config]
    listed = ",".join(map(str, chosen.sizes))
    if config.size != RunConfig().size:
        raise ValueError(f"size={config.size} and sizes={listed}: set one of them")
    if twice := [size for size in chosen.sizes if chosen.sizes.count(size) > 1]:
        square = "" if "x" in str(twice[0]) else f" ({twice[0]}x{twice[0]} is the same size)"
        raise ValueError(f"sizes: {twice[0]} is given twice{square}; name each size once")
    options = {name: value for name, value in config.options.items() if name != "sizes"}
    return [replace(config, size=size, options=options) for size in chosen.sizes]


def weight_files(config: RunConfig) -> list[str]:
    """Names of the weight files that the metrics of a run read."""
    chosen = build_settings(Options, config.options)
    of_protocols = [name for one in protocol.load_all(config.protocol) for name in one.metrics]
    return weights.used_by(chosen.metrics or of_protocols)


def build(config: RunConfig) -> Reconstruction:
    return Reconstruction(config, build_settings(Options, config.options))
