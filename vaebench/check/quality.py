"""Tests of values: range, gain, offset, alignment in time, clamping, precision.

Those that compare the video with its reconstruction apply only where the one resembles the other: an untrained network
reconstructs nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, error, quantised, smooth

LEAST_CORRELATION = 0.75  # of a clip and its reconstruction; below, gain and shift say nothing
GAIN, OFFSET = 0.05, 0.02  # the largest deviations that pass; pixels are in -1..1
SHIFTS = range(-2, 3)  # frames
CLEARLY = 0.95  # an error is smaller only below this share of the other
MOST_ROUNDING = 0.4  # untrained float32 networks have 0.1 at most, float16 at one place of the network 0.65 or more
STEP = 1e-4  # of the precision test, in pixels: far above the rounding of float32, below that of float16


def value_range(subject: Subject) -> Answer:
    """A VAE that was trained on 0..1 reconstructs better when it is fed 0..1."""
    if subject.weights == "random":
        return None, "an untrained VAE reconstructs nothing"
    video = subject.clip(subject.video.shape[2], _side(subject))
    ours = error(video, subject.decode(subject.encode(video)))
    other = error(video, subject.decode(subject.encode((video + 1) / 2)) * 2 - 1)
    said = f"mean squared error {ours:.2e} fed -1..1, {other:.2e} fed 0..1"
    if ours > 0.5 * float(video.var()):
        return False, f"{said}: hardly better than a flat grey; wrong range, weights or scaling"
    return ours <= 1.05 * other, said if ours <= 1.05 * other else f"{said}: it wants 0..1"


def gain_and_offset(subject: Subject) -> Answer:
    """Least squares of the clip on its reconstruction: a reconstruction loses detail, but is neither scaled nor shifted."""
    if subject.weights == "random":
        return None, "an untrained VAE reconstructs nothing"
    video = _smooth(subject, speed=1)
    frames = subject.decode(subject.encode(video)).float()
    covariance = float(((video - video.mean()) * (frames - frames.mean())).mean())
    correlation = covariance / float(video.std() * frames.std()) if frames.std() > 0 else 0.0
    if abs(correlation) < LEAST_CORRELATION:
        return None, f"the reconstruction resembles the clip too little (correlation {correlation:.2f})"
    # on the reconstruction, not on the clip: what was lost would pass for a gain below 1
    gain = float(frames.var()) / covariance
    offset = float(frames.mean()) - gain * float(video.mean())
    said = f"the reconstruction is {gain:.3f} x the clip {'-' if offset < 0 else '+'} {abs(offset):.3f}"
    return abs(gain - 1) <= GAIN and abs(offset) <= OFFSET, said


def frame_shift(subject: Subject) -> Answer:
    """Frame t of the reconstruction is nearer to frame t of the clip than to any up to two frames away."""
    if subject.weights == "random":
        return None, "an untrained VAE reconstructs nothing"
    video = _smooth(subject, speed=3)
    frames = subject.decode(subject.encode(video)).float()
    inner = slice(SHIFTS.stop - 1, video.shape[2] - (SHIFTS.stop - 1))
    errors = {shift: error(video.roll(shift, 2)[:, :, inner], frames[:, :, inner]) for shift in SHIFTS}
    best = min(errors, key=lambda shift: errors[shift])
    if errors[best] > (1 - LEAST_CORRELATION**2) * float(video.var()):
        return None, "the reconstruction resembles the clip too little at any shift"
    if errors[best] > CLEARLY * max(errors.values()):
        return None, "the reconstruction is as near to every shift of the clip"
    if errors[best] < CLEARLY * errors[0]:
        return False, f"the reconstruction is {abs(best)} frame(s) {'late' if best > 0 else 'early'}"
    return True, f"of shifts by -2..2 frames none is nearer ({', '.join(f'{e:.1e}' for e in errors.values())})"


def clamping(subject: Subject) -> Answer:
    """Whether decode clamps to -1..1: latents beyond the usual should give pixels beyond it."""
    latent, claimed = subject.encode(subject.clip(1)), subject.vae.spec.clamps
    claim = f"the spec says clamps={claimed}"
    for factor in (1, 2, 4, 8, 16, 32):
        pixels = subject.decode(latent * factor).abs()
        if pixels.max() > 1 + 1e-3:
            return not claimed, f"latents x {factor} give pixels up to {float(pixels.max()):.3g}; {claim}"
        at_the_limit = float((pixels >= 1 - 1e-6).double().mean())
        just_below = float(((pixels > 0.99) & (pixels < 1 - 1e-6)).double().mean())
        if at_the_limit > 1e-3:
            if just_below > at_the_limit:
                return None, "the network itself ends in a bounded function"
            return claimed, f"decode clamps: latents x {factor} give {at_the_limit:.1%} of pixels at 1 exactly; {claim}"
    return None, "no latent that was tried gives pixels beyond -1..1"


def precision(subject: Subject) -> Answer:
    """With dtype=float32 a small step moves the result half as far as a step of twice its size; lower precision rounds it away."""
    if subject.config.dtype != "float32":
        return None, f"dtype={subject.config.dtype} was asked for"
    video = subject.clip(subject.vae.spec.temporal_compression + 1, _side(subject))
    latent = subject.encode(video)
    said = []
    for half, function, value in (("encode", subject.encode, video), ("decode", subject.decode, latent)):
        if half == "encode" and quantised(latent):
            said.append("encode is quantised")
            continue
        rounding = _rounding(function, value)
        if rounding > MOST_ROUNDING:
            return (
                False,
                f"{half} computes in less than float32: {rounding:.0%} of its response to small steps is rounding",
            )
        said.append(f"{half} {rounding:.1%}")
    return True, f"share of rounding in the response to small steps: {', '.join(said)}"


def _rounding(function: Callable[[Tensor], Tensor], value: Tensor) -> float:
    """How far f(x + 2d) - f(x) is from twice f(x + d) - f(x), as a share of it."""
    value = value.double()
    direction = STEP * float(value.std()) * (0.5 + torch.linspace(0, 1, value.numel(), device=value.device).sin().abs())
    start, once, twice = (function((value + k * direction.view_as(value)).float()).double() for k in (0, 1, 2))
    moved = float((twice - start).square().mean().sqrt())
    return float((twice - 2 * once + start).square().mean().sqrt()) / moved if moved else 1.0


def _smooth(subject: Subject, speed: float) -> Tensor:
    return smooth(subject.vae.spec.fit(17), _side(subject), speed).to(subject.video.device)


def _side(subject: Subject) -> int:
    """At least eight latents: of a smaller frame even a good VAE keeps too little to be compared."""
    spec = subject.vae.spec
    return max(subject.video.shape[-1], -(-8 * spec.spatial_compression // spec.size_multiple) * spec.size_multiple)
