"""Reconstruction quality: encode and decode each clip and score the reconstruction against the original.

A clip is held in uint8 and its reconstruction in float32; both are scored in windows of frames.  In mode "streamed", frames are
decoded, encoded, reconstructed, scored and freed window by window (`vaebench.inference.streaming`), in memory that does not grow
with the length of the clip.  What needs the whole clip holds it in uint8: a codec of the protocol, metrics of whole clips (such as
fvd and vmaf), and clips that `keep_video` saves.  With `batch_size`, the VAE takes several clips at a time, which are scored one by
one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
import torch

from vaebench import keep, plugins, protocol, scoring, weights
from vaebench.allocator import freed_memory_returned_between
from vaebench.coded_references import CodedReferences, Reference
from vaebench.config import RunConfig
from vaebench.fingerprint import code, fingerprint
from vaebench.inference import batching, saving, streaming
from vaebench.kept_video import Pair
from vaebench.machine import pick_device
from vaebench.metric import Metric
from vaebench.options import ReconstructionOptions as Options
from vaebench.records import BITS, Score, interval
from vaebench.scoring import build_metrics, change, metric_code, metric_digests, score, stack
from vaebench.settings import build as build_settings
from vaebench.suite import Case, Suite, clip_cases, clip_generator, video_setting
from vaebench.timing import is_out_of_memory
from vaebench.vae import CodedVAE, StreamingVAE, VAESpec, VideoVAE, decode_as, encode_padded, pad
from vaebench.video import WINDOW, rechunked

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from vaebench.data import VideoSource
    from vaebench.device_idle import IdleMeter
    from vaebench.suite import Candidate, Statistics
    from vaebench.video import Clip, Latent, Video


@dataclass
class _RoundTrip:
    """A clip and its reconstruction, in pieces that are read once, side by side."""

    shape: tuple[int, ...]  # (1, 3, T, H, W)
    stored: Iterable[Tensor]  # pieces of the clip, uint8, or float32 in 0..1, on the device
    reconstruction: Iterable[Video]  # pieces of the reconstruction, float32 in -1..1
    prepared: Reference  # the clip as its protocol codes it
    latents: list[Latent] = field(
        default_factory=list
    )  # pieces of the latent that are needed; complete after the last piece


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
        hashes = any(type(metric).measure_known is not Metric.measure_known for metric in self.metrics.values())
        self.references = CodedReferences(self.protocol, hashes=hashes, pins=self.device.type == "cuda")
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
        self.batches = batching.BatchSizes(chosen.batch_size, self.device, self.notes)
        size = self.batches.wanted  # another than 1 changes the last digits
        self.identity |= {} if size == 1 else {"batch_size": size}
        self.streams = config.mode == "streamed"
        if self.streams and chosen.batch_size != 1:
            raise ValueError(
                f"batch_size={chosen.batch_size}: mode=streamed takes one clip at a time, window by window; leave one of them out"
            )
        if not self.streams:  # nothing of a streamed clip is left for another protocol
            self.shares = {
                **{name: getattr(self.protocol, name) for name in ("resize", "pixels", "input_codec")},
                **{name: self.identity[name] for name in ("posterior", "dtype", "seed")},
            }

    def setting(self, source: VideoSource) -> str:
        # another choice of metrics is part of the name, so that a trial run never replaces a full record
        own = [] if self.chosen == list(self.protocol.metrics) else ["+".join(map(self._label, self.chosen))]
        size = self.batches.wanted
        return "-".join([video_setting(self.config, source), *([] if size == 1 else [f"batch{size}"]), *own])

    def meter(self, total: int) -> IdleMeter:
        size = 1 if self.batches.wanted == "auto" else self.batches.wanted  # the first clip of auto is alone
        return super().meter(-(-total // size))

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
        streamed = self.streams and self.protocol.input_codec == "none"
        return [
            replace(case, params=_to_save(case, self.pictured, self.filmed) | {"codec": spec.codec}, streamed=streamed)
            for case in cases
        ]

    def is_complete(self, case: Case, names: Collection[str]) -> bool:
        needed = {*self.keys.values(), *(["frames"] if case.params["keep"] else [])}
        needed |= {"latent"} if self.keep_latents else set()
        needed |= {"video", "fps"} if case.params["keep_video"] else set()
        needed |= {BITS} if case.params["codec"] else set()
        return needed <= set(names)

    def prepare(self, case: Case, frames: Tensor) -> Reference:
        """The clip as the protocol codes it, for the VAE and for the metrics."""
        assert case.clip is not None
        return self.references.of(case.clip, frames)

    @torch.inference_mode()
    def measure(self, vae: VideoVAE, case: Case) -> Statistics:
        return self._score(case, *self._run(vae, case, keep=False))

    @torch.inference_mode()
    def start(self, vae: VideoVAE, case: Case) -> Callable[[], Statistics]:
        """As `measure`, but scores are computed by the result.  A streamed clip, of which no window is held, is scored at once."""
        if self._streams(vae):
            statistics = self.measure(vae, case)
            return lambda: statistics
        return partial(self._score, case, *self._run(vae, case, keep=True))

    def _streams(self, vae: VideoVAE) -> bool:
        """Whether the VAE takes a clip window by window; a cross of two VAEs is compared with another decoder, on whole clips."""
        return self.streams and isinstance(vae, StreamingVAE) and getattr(vae, "own", None) is None

    def _run(
        self, vae: VideoVAE, case: Case, *, keep: bool
    ) -> tuple[_RoundTrip, _RoundTrip | None, dict[str, NDArray]]:
        """Run the VAE.

        Args:
            keep: copy what the VAE may overwrite in its next call

        Returns:
            the round trip; for a cross of two VAEs, that of the decoder of its encoder; statistics of the latent
        """
        assert case.clip is not None
        own = getattr(vae, "own", None)
        if isinstance(vae, StreamingVAE) and self._streams(vae):
            trip, by_own = self._streamed(vae, case, case.clip), None
        else:
            trip = self._whole(vae, case, case.clip, keep=keep)
            by_own = None if own is None else self._by_own(own, case, trip, keep=keep)
        statistics: Statistics = {}
        if isinstance(vae, CodedVAE):
            pixels = trip.shape[2] * trip.shape[3] * trip.shape[4]  # of all frames
            statistics[BITS] = np.float64(int(vae.bits(trip.latents[0])[0]) / pixels)
        return trip, by_own, statistics

    @torch.inference_mode()
    def _score(self, case: Case, trip: _RoundTrip, by_own: _RoundTrip | None, statistics: Statistics) -> Statistics:
        """Score round trips, which may run in another thread than `_run`."""
        assert case.clip is not None
        missing = {name: metric for name, metric in self.metrics.items() if self.keys[name] not in case.stored}
        saved: dict[int, NDArray] = {}
        pictured, filmed = saving.pictured(trip.shape[2]), range(trip.shape[2])
        wanted = {*(pictured if case.params["keep"] else []), *(filmed if case.params["keep_video"] else [])}
        pairs = saving.saving(self._windows(trip), wanted, saved)
        scored = scoring.measure(missing, pairs, trip.prepared.digest)
        self._check_finite(scored)
        statistics = {**statistics, **{self.keys[name]: value for name, value in scored.items()}}
        if by_own is not None:
            values = scoring.measure(missing, self._windows(by_own), by_own.prepared.digest)
            self._check_finite(values)
            statistics |= {f"own {self.keys[name]}": value for name, value in values.items()}
        if case.params["keep"]:
            statistics["frames"] = np.stack([saved[index] for index in pictured], axis=1)
        if case.params["keep_video"]:
            statistics["video"] = np.stack([saved[index] for index in filmed], axis=1)
            statistics["fps"] = np.float64(case.clip.fps)
        if self.keep_latents:
            statistics["latent"] = torch.cat(trip.latents, dim=2).cpu().numpy()
        return statistics

    def _check_finite(self, scored: Mapping[str, NDArray]) -> None:
        """Raises ValueError if the score of a clip is NaN or infinite, since the mean over clips would be, too.

        Statistics of other metrics than `per_clip` are theirs to reduce.
        """
        for name, value in scored.items():
            if self.metrics[name].per_clip and not np.isfinite(value).all():
                raise ValueError(
                    f"{name} is {value}, expected a finite number: leave the metric or this clip out, or correct the metric"
                )

    def _windows(self, trip: _RoundTrip) -> Iterator[tuple[Video, Video]]:
        """Windows of the reference and of the reconstruction, float32 (1, 3, n, H, W) in 0..1: the input of the metrics."""
        coded = trip.prepared.scored
        if coded is None:
            reference = self.protocol.windows(map(self.protocol.to_range, trip.stored), reference=True)
        else:  # its frames are those that `protocol.windows` would compress
            reference = self.protocol.windows_of_coded(coded.to(self.device, non_blocking=True))
        return zip(reference, self._scored(trip.reconstruction), strict=True)

    def _scored(self, pieces: Iterable[Video]) -> Iterator[Video]:
        """Pieces of a reconstruction in -1..1 -> its windows in 0..1."""
        return self.protocol.windows(pieces)

    def _whole(self, vae: VideoVAE, case: Case, clip: Clip, *, keep: bool) -> _RoundTrip:
        """The clip in one call of the VAE."""
        prepared = self._prepared(case, clip)
        if not case.shared:  # another protocol or a batch may have done it
            self._batch(vae, case)
        if not case.shared:
            with self.batches.probing(vae.spec):
                frames = self._frames(clip, prepared)
                reconstruction, latent = self._reconstruct(vae, frames, case)
            reconstruction = reconstruction.clone() if keep else reconstruction
            case.shared.update(frames=frames, reconstruction=reconstruction, latent=latent)
        frames, reconstruction, latent = (case.shared[name] for name in ("frames", "reconstruction", "latent"))
        stored, pieces = frames.split(WINDOW, dim=2), reconstruction.split(WINDOW, dim=2)
        return _RoundTrip(tuple(frames.shape), stored, pieces, prepared, [latent])

    def _batch(self, vae: VideoVAE, first: Case) -> None:
        """Reconstruct a clip with those that follow it, as many as `batch_size` says, and put the results into `Case.shared`.

        Clips without results are reconstructed alone: those that cannot be read, which fail by name then, those of another
        shape, those whose latent is stored, and those of a batch that failed.
        """
        size = self.batches.of(vae.spec)
        if size == 1 or isinstance(vae, CodedVAE) or self._alone(vae, first):
            return
        batch: list[tuple[Case, Tensor]] = []
        try:
            for case in [first, *first.following(size - 1)]:
                frames = None if case.shared or self._alone(vae, case) else self._readable(case)
                if frames is not None and (not batch or _alike(frames, batch[0][1])):
                    batch.append((case, frames))
            if len(batch) < 2:
                return
            together = torch.cat([frames for _, frames in batch])
            padded = pad(self.protocol.to_range(together), vae.spec)
            generators = [clip_generator(self.config.seed, case.id) for case, _ in batch]
            latent = batching.encode_clips(vae, padded, posterior=self.posterior, generators=generators)
            del padded
            reconstruction = decode_as(vae, together, latent)
            # copies, so that each clip is freed after its scores
            for (case, frames), video, z in zip(batch, reconstruction.split(1), latent.split(1), strict=True):
                case.shared.update(frames=frames, reconstruction=video.clone(), latent=z.clone())
        except Exception as error:
            for case, _ in batch:
                case.shared.clear()
            self.batches.failed(vae.spec, [case.id for case, _ in batch] or [first.id], error)

    def _alone(self, vae: VideoVAE, case: Case) -> bool:
        """Whether a clip goes through the VAE alone: its latent is stored, or its batch failed."""
        return "latent" in case.stored or (vae.spec.name, case.id) in self.batches.alone

    def _readable(self, case: Case) -> Tensor | None:
        """The frames of a clip, as `_frames`; None if it cannot be read, which its own measurement reports.

        Raises:
            Exception: out of memory
        """
        assert case.clip is not None
        try:
            return self._frames(case.clip, self._prepared(case, case.clip))
        except Exception as error:
            if is_out_of_memory(error):
                raise
            return None

    def _by_own(self, own: VideoVAE, case: Case, trip: _RoundTrip, *, keep: bool) -> _RoundTrip:
        """The clip of `trip`, from `_whole`, decoded by `own`."""
        if "by_own" not in case.shared:
            decoded = decode_as(own, case.shared["frames"], case.shared["latent"])
            case.shared["by_own"] = decoded.clone() if keep else decoded
        return replace(trip, reconstruction=case.shared["by_own"].split(WINDOW, dim=2))

    def _prepared(self, case: Case, clip: Clip) -> Reference:
        """What `prepare` made of the clip in a decoding thread; computed here if it was not called."""
        prepared: Reference | None = case.prepared()
        return prepared or self.references.of(clip, clip.load())

    def _frames(self, clip: Clip, prepared: Reference) -> Tensor:
        """(1, 3, T, H, W) on the device, uint8 or float32 in 0..1, after the input codec of the protocol."""
        given = clip.load().unsqueeze(0) if prepared.given is None else prepared.given
        return given.to(self.device, non_blocking=True)

    def _reconstruct(self, vae: VideoVAE, frames: Tensor, case: Case) -> tuple[Video, Latent]:
        """The reconstruction of `_frames` and its latent.  If the latent is stored, only the decoder runs."""
        if "latent" in case.stored:
            latent = torch.from_numpy(case.stored["latent"]).to(self.device)
        else:
            padded = pad(self.protocol.to_range(frames), vae.spec)
            generator = clip_generator(self.config.seed, case.id)
            latent = encode_padded(vae, padded, posterior=self.posterior, generator=generator)
            del padded  # as large as the reconstruction
        return decode_as(vae, frames, latent), latent

    def _streamed(self, vae: StreamingVAE, case: Case, clip: Clip) -> _RoundTrip:
        """The clip window by window: nothing runs before the first window is read."""
        shape, stored, prepared = self._pieces(case, clip)
        trip = _RoundTrip(shape, stored, [], prepared)
        if "latent" in case.stored:
            latents: Iterable[Latent] = [torch.from_numpy(case.stored["latent"]).to(self.device)]
        else:
            trip.stored, again = streaming.twice(stored)  # frames wait in uint8 from the encoder to the scores
            generator = clip_generator(self.config.seed, case.id)
            video = map(self.protocol.to_range, again)
            latents = streaming.encoded(vae, video, shape, posterior=self.posterior, generator=generator)
        if self.keep_latents:
            latents = streaming.collected(latents, trip.latents)
        trip.reconstruction = streaming.decoded(vae, latents, shape)
        return trip

    def _pieces(self, case: Case, clip: Clip) -> tuple[tuple[int, ...], Iterator[Tensor], Reference]:
        """The shape of a clip (1, 3, T, H, W), its windows as `_frames` would give them, and what is known of the clip."""
        if clip.stream is None or self.protocol.input_codec != "none":
            prepared = self._prepared(case, clip)
            frames = self._frames(clip, prepared)
            return tuple(frames.shape), iter(frames.split(WINDOW, dim=2)), prepared
        read = freed_memory_returned_between(rechunked(_counted(clip, self.config.num_frames), WINDOW))
        # `map`, because a generator would hold a window while the next one is read
        windows = map(lambda window: window.to(self.device), read)
        first = next(windows)
        shape = (*first.shape[:2], self.config.num_frames, *first.shape[3:])
        return shape, chain([first], windows), Reference(given=None, scored=None, digest=b"")

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        scores = {name: self._summary(name, metric, statistics) for name, metric in self.metrics.items()}
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

    def _summary(self, name: str, metric: Metric, statistics: Mapping[str, Statistics]) -> Score:
        key = self.keys[name]
        if len({values[key].shape for values in statistics.values()}) > 1:  # such as windows of a distance of sets
            note = "the clips have different lengths: set num_frames=N"
            return Score(None, metric.unit, metric.better, len(statistics), note=note, metric=name, status="undefined")
        return score(name, metric, stack(statistics, key))

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


def _alike(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype


def _counted(clip: Clip, num_frames: int) -> Iterator[Tensor]:
    """The pieces of a streamed clip, (1, 3, n, H, W) each.

    Raises:
        ValueError: the source gives another number of frames than `num_frames`
    """
    assert clip.stream is not None
    given = 0
    for piece in clip.stream():
        given += piece.shape[1]
        if given <= num_frames:
            yield piece.unsqueeze(0)
    if given != num_frames:
        raise ValueError(f"{clip.file or clip.id}: the data source gave {given} frames instead of {num_frames}")


def _to_save(case: Case, pictured: Collection[str], filmed: Collection[str]) -> dict[str, bool]:
    """The parameters of a case: whether frames and whether a video are saved."""
    return {"keep": case.id in pictured, "keep_video": case.id in filmed}


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
