"""What are the latents like?  Correlation, spectra, channels, KL, and what the decoder tolerates.

`vaebench run --help` says what each score means.  The statistics describe the posterior means of a set of clips.  The latents of
each clip are stored, since standardized statistics need the channel statistics of the whole set.  For the decoder's curves, which
are measured clip by clip, the mean and standard deviation of channels are those of the first 8 clips.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F

from vaebench import keep
from vaebench.config import RunConfig
from vaebench.latents import curves, decoder, passes, posterior, scores, sets, subbands
from vaebench.latents.jackknife import mean
from vaebench.machine import pick_device
from vaebench.options import LatentOptions as Options
from vaebench.settings import build as build_settings
from vaebench.suite import Case, Suite, clip_cases, clip_generator, video_setting
from vaebench.vae import Posterior, VAESpec, VideoVAE, check_latent, check_posterior, decode_as, pad
from vaebench.video import to_model, to_stored

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.data import VideoSource
    from vaebench.records import Score
    from vaebench.suite import Candidate, Statistics
    from vaebench.video import Clip, Latent, Video

CALIBRATION = 8  # clips
RELIABLE = 64  # clips
SAVED = ("frames", "frame_index")  # by keep=, of some clips only
# scores that a small set biases: few clips span few directions
BIASED = ("participation_ratio", "effective_rank", "k90", "top1", "gaussian_mmse", "code_length", "rate_35db")
COLUMNS = (
    *("psnr", "localcorr", "autocorr_t", "autocorr_x", "dct_lf", "dct_excess", "slope_space", "effective_rank"),
    *("gaussian_mmse", "noise_gain", "sigma_3db", "rate_35db", "kl_bits_per_pixel"),
)


@dataclass(frozen=True)
class Subject:
    """A VAE, and the mean and standard deviation (C,) of its channels, if noise or masks need them."""

    vae: VideoVAE
    scale: tuple[Tensor, Tensor]


class LatentSuite(Suite[Subject]):
    name = "latent"
    measures_idle = True
    unused: ClassVar[dict[str, str]] = {
        "posterior": "the latent suite describes the posterior mean",
        "protocol": "the latent suite has one protocol",
    }

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        for name, values, least, most in (("noise", chosen.noise, 0.0, 10.0), ("masks", chosen.masks, 0.0, 1.0)):
            ordered = all(a < b for a, b in pairwise(values))
            if not ordered or any(not least < value <= most for value in values):
                raise ValueError(
                    f"{name}={','.join(map(str, values))} should be ascending numbers above {least:g}, at most {most:g}"
                )
        self.noise, self.masks = chosen.noise, chosen.masks
        self.keep, self.pictured = keep.parse(chosen.keep), set[str]()
        if self.keep.worst:
            raise ValueError(
                f"keep=worst:{self.keep.worst}: the latent suite saves frames of the clip, which no score ranks; give a number of "
                "clips, or ids of clips"
            )
        self.device = pick_device(config.device)
        names = ("num_frames", "size", "mode", "seed")
        self.identity = {name: getattr(config, name) for name in names}
        self.identity |= {"dtype": config.dtype or "float32", "noise": self.noise, "masks": self.masks}
        # the scale of the noise depends on these clips; without noise and masks, each clip is measured on its own
        self.identity["calibration"] = min(config.clips or CALIBRATION, CALIBRATION) if self.noise or self.masks else 0
        self.columns = list(COLUMNS)
        self.first: list[Clip] = []
        self._described: tuple[Mapping[str, Statistics], list[dict[str, NDArray]]] | None = None

    def setting(self, source: VideoSource) -> str:
        default = Options()
        parts = [video_setting(self.config, source)]
        if self.noise != default.noise:
            parts.append("noise" + ("+".join(f"{level:g}" for level in self.noise) or "-none"))
        if self.masks != default.masks:
            parts.append("masks" + ("+".join(f"{share:g}" for share in self.masks) or "-none"))
        parts += [f"seed{self.config.seed}"] if self.config.seed else []
        return "-".join(parts)

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        cases = clip_cases(source, self.config)
        self.first = [case.clip for case in cases[:CALIBRATION] if case.clip is not None]
        self.pictured = self.keep.chosen([case.id for case in cases])
        return [replace(case, params={"keep": case.id in self.pictured}) for case in cases]

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        return "frames" in names or not case.params["keep"]

    @torch.inference_mode()
    def open(self, candidate: Candidate) -> Subject:
        dtype = getattr(torch, self.config.dtype or "float32")
        vae = candidate.load(self.config.mode, device=self.device, dtype=dtype)
        return Subject(vae, self._scale(vae) if self.noise or self.masks else (torch.empty(0), torch.empty(0)))

    def _scale(self, vae: VideoVAE) -> tuple[Tensor, Tensor]:
        """The mean and standard deviation (C,) of the channels of the first clips that can be read and encoded."""
        found: list[dict[str, NDArray]] = []
        reasons: list[str] = []
        for clip in self.first:
            try:
                _, q = self._encode(vae, clip)
            except (OSError, ValueError) as reason:  # the clip is also a case, whose failure is reported
                reasons.append(str(reason))
                continue
            found.append(passes.first(q.mean[0].cpu().numpy()))
        if not found:
            raise ValueError(f"none of the first {len(self.first)} clips could be encoded: {reasons[0]}")
        means = mean(found)
        std = np.sqrt((means["products"].diagonal() - np.square(means["mean"])).clip(min=0))
        return torch.from_numpy(means["mean"]).float(), torch.from_numpy(std).float()

    def _encode(self, vae: VideoVAE, clip: Clip) -> tuple[Video, Posterior]:
        """The clip (1, 3, T, H, W) in -1..1, and its posterior.

        Raises:
            ValueError: latents of a wrong shape, or non-finite latents
        """
        video = to_model(clip.load().to(self.device, non_blocking=True)).unsqueeze(0)
        padded = pad(video, vae.spec)
        q = check_posterior(vae, vae.encode(padded))
        latent = check_latent(vae, padded, q.mode()).float().clone()
        if not bool(latent.isfinite().all()):
            raise ValueError(f"{vae.spec.name}: the latent has NaN or infinite values; try dtype=float32")
        return video, Posterior(latent, None if q.logvar is None else q.logvar.float())

    @torch.inference_mode()
    def measure(self, subject: Subject, case: Case) -> Statistics:
        assert case.clip is not None
        frames = _frames(case.clip) if case.params["keep"] else {}
        if case.stored:  # only the frames are missing
            return frames
        vae = subject.vae
        video, q = self._encode(vae, case.clip)
        energy, histogram = subbands.subbands(subbands.causal(video[0]), subbands.PIXELS)
        statistics: Statistics = {
            "latent": q.mean[0].cpu().numpy(),
            "rgb": _at_size_of(q.mean, video).cpu().numpy(),
            "pixels": np.array(float(video[0, 0].numel())),
            "pixel_subband_energy": energy,
            "pixel_subband_histogram": histogram,
            "scale": torch.stack(subject.scale).cpu().numpy(),
        }
        if q.logvar is not None:
            variance = q.logvar.clamp(-30, 20).exp()[0].double().cpu().numpy()
            statistics["kl"] = posterior.kl_bits(q.mean[0].double().cpu().numpy(), variance)
            statistics["posterior_variance"] = variance.reshape(len(variance), -1).mean(1)
        return (
            statistics
            | frames
            | decoder.curves(
                lambda latent: decode_as(vae, video, latent),
                video,
                q.mean,
                subject.scale,
                self.noise,
                self.masks,
                clip_generator(self.config.seed, case.id),
            )
        )

    def _clips(self, statistics: Mapping[str, Statistics]) -> list[dict[str, NDArray]]:
        """What both passes and the decoder say of each clip; computed once for the statistics of a VAE."""
        if self._described is None or self._described[0] is not statistics:
            self._described = statistics, sets.described(_checked(statistics))
        return self._described[1]

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        n = len(statistics)
        few = f"from {n} clip{'' if n == 1 else 's'}; use {RELIABLE} or more for a reliable value"
        notes = dict.fromkeys(BIASED, few) if n < RELIABLE else {}
        of_decoder = scores.of_decoder(self.noise, self.masks)
        definitions = {"psnr": of_decoder["psnr"], **scores.LATENTS, **of_decoder}
        others = sets.without_groups(_checked(statistics))
        return scores.scores(definitions, self._clips(statistics), others, notes)

    def per_case(self, statistics: Mapping[str, Statistics]) -> dict[str, dict[str, float]]:
        clips = dict(zip(statistics, self._clips(statistics), strict=True))
        return {case: curves.of_clip(clip) for case, clip in clips.items()}

    def pictures(self, statistics: Mapping[str, Statistics]) -> dict[str, NDArray]:
        """Case id -> uint8 (1, 2, H, W, 3): two frames of the clip, which are one time step of its sub-bands."""
        return {case: statistics[case]["frames"] for case in statistics if case in self.pictured}

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        found = curves.of_set(self._clips(statistics), self.noise, self.masks)
        saved = {case: values["frame_index"].tolist() for case, values in statistics.items() if case in self.pictured}
        return found | ({"saved": saved} if saved else {})


def _frames(clip: Clip) -> Statistics:
    """The middle pair of frames, as the wavelet transform pairs them: "frames", uint8 (1, 2, H, W, 3), and "frame_index" (2,)."""
    video = to_stored(to_model(clip.load()))
    index = subbands.middle_pair(video.shape[1])
    return {"frames": video[:, list(index)].permute(1, 2, 3, 0)[None].numpy(), "frame_index": np.array(index)}


def _at_size_of(latent: Latent, video: Video) -> Tensor:
    """(1, 3, T, H, W) -> (3, t, h, w): one frame per latent frame, resized to the latent grid with antialiasing."""
    t, h, w = latent.shape[2:]
    some = torch.linspace(0, video.shape[2] - 1, t, device=video.device).round().long()
    frames = video[0, :, some].transpose(0, 1)
    return F.interpolate(frames, (h, w), mode="bilinear", antialias=True).transpose(0, 1)


def _checked(statistics: Mapping[str, Statistics]) -> list[Statistics]:
    """The stored clips of one set, without saved frames.

    Raises:
        ValueError: the latents have different shapes, or the noise had different scales
    """
    stored = [{name: values[name] for name in values if name not in SAVED} for values in statistics.values()]
    shapes = {clip["latent"].shape for clip in stored}
    if len(shapes) > 1:
        raise ValueError(f"the latents of a set should have one shape, got {sorted(shapes)}")
    if any(not np.array_equal(clip["scale"], stored[0]["scale"]) for clip in stored):
        raise ValueError(
            f"the noise of the decoder's curves has different scales, because the first {CALIBRATION} clips could not always be "
            "read: measure all clips again with another folder runs=DIR"
        )
    return stored


def build(config: RunConfig) -> LatentSuite:
    return LatentSuite(config, build_settings(Options, config.options))
