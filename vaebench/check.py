"""`vaebench check NAME`: the contract as tests that anyone can run on any adapter or checkpoint, a verdict a line.

The tests ask the VAE itself, by changing what goes in and watching what comes out: a wrong value range, an encoder that
looks ahead, a "whole" mode that works in pieces all show themselves, whatever the adapter says.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

import adapters
from vaebench.config import check_values, parse
from vaebench.machine import pick_device, without_tf32
from vaebench.vae import LOSSLESS_TOLERANCE, VideoVAE, check_latent, check_reconstruction, reconstruct

CANARIES = Path(__file__).parent / "reference" / "canaries.json"
PROBES = 16  # values kept of a canary's latent and frames


@dataclass(frozen=True)
class CheckConfig:
    """Settings of `vaebench check`."""

    num_frames: int = 33  # frames of the test clip; long enough for several chunks
    size: int = 64  # height and width of the test clip in pixels; larger finds spatial tiles
    device: str = "auto"
    dtype: str = "float32"
    weights: str = ""  # file or folder of weights


@dataclass(frozen=True)
class Verdict:
    test: str
    passed: bool | None  # None: does not apply, `said` has the reason
    said: str

    def __str__(self) -> str:
        mark = {True: "pass", False: "FAIL", None: "n/a "}[self.passed]
        return f"{mark}  {self.test}: {self.said}"


@dataclass(frozen=True)
class Subject:
    """The VAE under test, how it was made, and a legal clip for it."""

    name: str
    vae: VideoVAE
    video: Tensor  # float32 (1, 3, T, H, W) in -1..1
    config: CheckConfig
    weights: str  # sha256, "random" or "none"


def pattern(num_frames: int, size: int) -> Tensor:
    """A smooth, coloured, moving pattern, the same on every machine: float32 (1, 3, T, size, size) in -1..1."""
    t = torch.arange(num_frames, dtype=torch.float64).view(-1, 1, 1) / 16
    y = torch.arange(size, dtype=torch.float64).view(1, -1, 1) / size
    x = torch.arange(size, dtype=torch.float64).view(1, 1, -1) / size
    waves = [torch.sin(6.3 * (a * x + b * y) + c * t) for a, b, c in ((2, 1, 1.0), (-1, 3, 0.7), (1, -2, 1.6))]
    edges = torch.tanh(8 * torch.sin(9.0 * x - 4.0 * y + 2.0 * t))  # something sharp, which smooth waves lack
    return torch.stack([0.6 * wave + 0.3 * edges for wave in waves]).float().unsqueeze(0).clamp(-1, 1)


def check(name: str, settings: Sequence[str]) -> int:
    """Print a verdict a line; 0 if none failed, 1 otherwise.

    ValueError for a setting that is none, ValueError or OSError if the VAE cannot be loaded.
    """
    config = check_values(parse(CheckConfig, settings))
    without_tf32()  # its error is a hundred times what the tests allow
    failed = 0
    for verdict in verdicts(name, config):
        print(verdict, flush=True)
        failed += verdict.passed is False
    print(
        f"{name}: {'keeps the contract' if not failed else f'{failed} of the tests above failed'}",
        file=sys.stderr,
    )
    return int(failed > 0)


def verdicts(name: str, config: CheckConfig) -> Iterator[Verdict]:
    """One verdict for each of TESTS, as soon as it is known."""
    subject = _subject(name, config)
    for test in TESTS:
        try:
            with torch.inference_mode():
                passed, said = test(subject)
        except Exception as error:  # a crash is a verdict too, and the other tests still have something to say
            passed, said = False, f"{type(error).__name__}: {error}"
        yield Verdict(test.__name__.strip("_").replace("_", " "), passed, said)


def _subject(name: str, config: CheckConfig) -> Subject:
    spec = adapters.find(name)
    device = pick_device(config.device)
    vae = adapters.load(
        name, weights=config.weights, device=device, dtype=getattr(torch, config.dtype), mode=spec.modes[0]
    )
    size = -(-config.size // spec.size_multiple) * spec.size_multiple
    video = pattern(spec.fit(config.num_frames), size).to(device)
    return Subject(name, vae, video, config, adapters.weights_digest(name, config.weights))


Answer = tuple[bool | None, str]


def weights_checksum(subject: Subject) -> Answer:
    published = subject.vae.spec.sha256
    if subject.weights in ("random", "none"):
        return None, f"{subject.weights} weights"
    if not published:
        return None, f"sha256 {subject.weights[:16]}..., and none is published to compare"
    return subject.weights == published, f"sha256 {subject.weights[:16]}..., published {published[:16]}..."


def shapes(subject: Subject) -> Answer:
    vae, video = subject.vae, subject.video
    latent = check_latent(vae, video, vae.encode(video).mode())
    check_reconstruction(vae, video, vae.decode(latent))
    return True, f"{tuple(video.shape)} -> {tuple(latent.shape)} -> {tuple(video.shape)}"


def frame_rule(subject: Subject) -> Answer:
    """The three shortest legal lengths run as they are, and every length between them after padding."""
    spec = subject.vae.spec
    legal = [spec.fit(1)]
    for _ in range(2):
        legal.append(spec.fit(legal[-1] + 1))
    for length in range(legal[0], legal[-1] + 1):
        video = pattern(length, subject.video.shape[-1])[..., : subject.video.shape[-1]].to(subject.video.device)
        reconstruct(subject.vae, video)
    return True, f"{spec.frames}: {', '.join(map(str, legal))} frames, and all between them padded"


def sizes(subject: Subject) -> Answer:
    size = subject.video.shape[-1]
    video = pattern(subject.vae.spec.fit(1), size)[..., : size - 1, : size - 3].to(subject.video.device)
    reconstruct(subject.vae, video)
    return True, f"{size - 1} x {size - 3} is padded and cropped back"


def value_range(subject: Subject) -> Answer:
    """A VAE that was trained on 0..1 reconstructs better when it is fed 0..1."""
    if subject.weights == "random":
        return None, "an untrained VAE reconstructs nothing"
    video = subject.video
    ours = _error(video, subject.vae.decode(subject.vae.encode(video).mode()))
    other = _error(video, subject.vae.decode(subject.vae.encode((video + 1) / 2).mode()) * 2 - 1)
    said = f"mean squared error {ours:.2e} fed -1..1, {other:.2e} fed 0..1"
    if ours > 0.5 * float(video.var()):
        return False, f"{said}: hardly better than a flat grey; wrong range, weights or scaling"
    return ours <= 1.05 * other, said if ours <= 1.05 * other else f"{said}: it wants 0..1"


def determinism(subject: Subject) -> Answer:
    vae, video = subject.vae, subject.video
    first, second = (vae.encode(video).mode() for _ in range(2))
    same = torch.equal(first, second) and torch.equal(vae.decode(first), vae.decode(first))
    return same, "twice the same bits" if same else "the same clip gave two results"


def batch(subject: Subject) -> Answer:
    """Clips of one batch do not see each other."""
    video = subject.video
    pair = torch.cat([video, video.flip(-1)])
    alone = subject.vae.encode(video).mode()
    together = subject.vae.encode(pair).mode()[:1]
    difference = _distance(alone, together)
    limit = LOSSLESS_TOLERANCE[subject.config.dtype]
    return difference <= limit, f"alone and in a batch of two differ by {difference:.1e}"


def causality(subject: Subject) -> Answer:
    """Latents of the first half must not move when the second half of the frames changes, if the spec says causal."""
    spec, video = subject.vae.spec, subject.video
    frames = video.shape[2]
    count = spec.latent_frames(frames)
    if count < 2:
        return None, "one latent frame only"
    half = count // 2
    # the first `half` latents of a causal encoder see frames up to this one and no further
    seen = 1 + (half - 1) * spec.temporal_compression
    changed = video.clone()
    changed[:, :, seen:] = -changed[:, :, seen:].flip(-1)
    before, after = (subject.vae.encode(clip).mode()[:, :, :half] for clip in (video, changed))
    moved = _distance(before, after)
    causal = moved <= 1e-6
    said = f"changing frames from {seen} on moves earlier latents by {moved:.1e}"
    return causal == spec.causal, f"{said}; the spec says {'causal' if spec.causal else 'not causal'}"


def hidden_pieces_of_time(subject: Subject) -> Answer:
    """In a whole mode, what a frame reaches depends on its phase alone; where it does not, the VAE works in pieces."""
    spec, video = subject.vae.spec, subject.video
    if spec.modes[0] != "whole":
        return None, f"the spec offers no whole mode ({', '.join(spec.modes)})"
    if spec.frames_per_piece:
        return None, f"the spec says that it starts afresh every {spec.frames_per_piece} frames"
    if spec.latent_frames(video.shape[2]) < 4:
        return None, "fewer than four latent frames"
    reach = _influence(lambda clip: subject.vae.encode(clip).mode(), video)  # (frames, latents)
    broken = _breaks(reach, spec.temporal_compression)
    if broken:
        frame, number = broken
        return (
            False,
            f"encode works in pieces: frame {frame} does not reach latent {number}, others of its phase do",
        )
    latent = subject.vae.encode(video).mode()
    reach = _influence(subject.vae.decode, latent)  # (latents, frames)
    broken = _breaks(reach.T, spec.temporal_compression)
    if broken:
        frame, index = broken
        return (
            False,
            f"decode works in pieces: latent {index} does not reach frame {frame}, others of its phase do",
        )
    return True, f"every one of {video.shape[2]} frames reaches as far as the others of its phase"


def _influence(function: Callable[[Tensor], Tensor], value: Tensor) -> Tensor:
    """bool (frames of the argument, frames of the result): which frames of the result move with each of the argument."""
    base = function(value)
    scale = float(base.abs().max())
    rows = []
    for index in range(value.shape[2]):
        changed = value.clone()
        changed[:, :, index] = -changed[:, :, index].flip(-1) + 0.1
        moved = (function(changed) - base).abs().amax(dim=(0, 1, 3, 4))
        rows.append(moved > 1e-7 * scale)
    return torch.stack(rows)


def _breaks(reach: Tensor, ratio: int) -> tuple[int, int] | None:
    """(frame, latent) where `reach` (frames, latents) differs from that of another frame of the same phase.

    The first latent and its frames are left out, and the last: the ends of a video are rightly special.
    """
    frames, latents = reach.shape
    offset = 1 if frames % ratio == 1 or ratio == 1 else 0  # 1 + 4k frames: the first stands alone
    for phase in range(ratio):
        seen: dict[int, tuple[bool, int, int]] = {}
        for frame in range(offset + ratio + phase, frames - ratio, ratio):
            own = (frame - offset) // ratio + offset
            for latent in range(1, latents - 1):
                reached = bool(reach[frame, latent])
                other = seen.setdefault(latent - own, (reached, frame, latent))
                if other[0] != reached:
                    return (frame, latent) if not reached else other[1:]
    return None


def block_wise_against_whole(subject: Subject) -> Answer:
    spec = subject.vae.spec
    if len(spec.modes) < 2 or spec.modes[0] != "whole":
        return None, "one mode only"
    whole_latent = subject.vae.encode(subject.video).mode()
    whole = subject.vae.decode(whole_latent)
    said, passed = [], True
    for mode in spec.modes[1:]:
        vae = adapters.load(
            subject.name,
            weights=subject.config.weights,
            device=subject.video.device,
            dtype=getattr(torch, subject.config.dtype),
            mode=mode,
        )
        latent = vae.encode(subject.video).mode()
        same_shape = latent.shape == whole_latent.shape
        differences = [_distance(whole_latent, latent)] if same_shape else []
        differences += [_distance(whole, vae.decode(whole_latent))] if same_shape else []
        worst = max(differences, default=float("inf"))
        if mode in spec.lossless_modes:
            passed = passed and worst <= LOSSLESS_TOLERANCE[subject.config.dtype]
        claim = ", said to be lossless" if mode in spec.lossless_modes else ""
        said.append(f"{mode} differs by {worst:.1e}{claim}")
    return passed, "; ".join(said)


def canary(subject: Subject) -> Answer:
    """Some values of the latent and of the frames, where they were recorded for these very weights."""
    recorded = json.loads(CANARIES.read_text()).get(subject.name)
    if recorded is None:
        return None, "nothing recorded"
    if recorded["weights"] != subject.weights:
        return None, "recorded for other weights"
    latent, frames = probes(subject)
    worst = max(
        _distance(torch.tensor(recorded["latent"]), latent),
        _distance(torch.tensor(recorded["frames"]), frames),
    )
    return worst <= 1e-3, f"latent and frames are within {worst:.1e} of the recorded ones"


def probes(subject: Subject) -> tuple[Tensor, Tensor]:
    """Values at fixed places of the latent and of the frames of a 17-frame pattern at 64 pixels (or what fits)."""
    spec = subject.vae.spec
    video = pattern(spec.fit(17), -(-64 // spec.size_multiple) * spec.size_multiple).to(subject.video.device)
    latent = subject.vae.encode(video).mode()
    return _spread(latent), _spread(subject.vae.decode(latent))


def _spread(values: Tensor) -> Tensor:
    flat = values.flatten()
    return flat[torch.linspace(0, len(flat) - 1, PROBES).long()].cpu()


def _distance(a: Tensor, b: Tensor) -> float:
    """Largest difference, relative to the larger of 1 and the largest value."""
    return float((a - b).abs().max() / max(1.0, float(a.abs().max())))


def _error(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean())


TESTS: tuple[Callable[[Subject], Answer], ...] = (
    weights_checksum,
    shapes,
    frame_rule,
    sizes,
    value_range,
    determinism,
    batch,
    causality,
    hidden_pieces_of_time,
    block_wise_against_whole,
    canary,
)
