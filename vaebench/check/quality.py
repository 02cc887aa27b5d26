"""Tests of pixel values: range, gain, offset, alignment in time, clamping, precision.

Tests that compare a video with its reconstruction apply only if the two are similar: an untrained network does not
reconstruct its input.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vaebench.check.subject import Answer, Subject, error, quantised, smooth

LEAST_CORRELATION = 0.75  # of a clip and its reconstruction; below it, gain and shift cannot be measured
GAIN, OFFSET = 0.05, 0.02  # largest deviations that pass; pixels are in -1..1
SHIFTS = range(-2, 3)  # frames
CLEARLY = 0.95  # an error counts as smaller than another below this fraction of it
MOST_ROUNDING = 0.4  # float32 networks have at most 0.1; float16 in a single layer gives 0.65 or more
STEP = 1e-4  # step of the precision test in pixel values: above the rounding error of float32, below that of float16


def value_range(subject: Subject) -> Answer:
    """The reconstruction is better with inputs in -1..1 than with inputs in 0..1."""
    if subject.weights == "random":
        return None, "an untrained VAE reconstructs nothing"
    video = subject.clip(subject.video.shape[2], _side(subject))
    ours = error(video, subject.reconstruct(video))
    other = error(video, subject.reconstruct((video + 1) / 2) * 2 - 1)
    sentence = f"mean squared error {ours:.2e} with inputs in -1..1, {other:.2e} in 0..1"
    if ours > 0.5 * float(video.var()):
        return False, f"{sentence}: hardly better than a constant grey; check value range, weights and latent scaling"
    passed = ours <= 1.05 * other
    return passed, sentence if passed else f"{sentence}: the network expects inputs in 0..1"


def gain_and_offset(subject: Subject) -> Answer:
    """Least-squares fit of the clip to its reconstruction: the gain should be 1 and the offset 0."""
    if subject.weights == "random":
        return None, "an untrained VAE reconstructs nothing"
    video = _smooth(subject, speed=1)
    frames = subject.reconstruct(video).float()
    covariance = float(((video - video.mean()) * (frames - frames.mean())).mean())
    correlation = covariance / float(video.std() * frames.std()) if frames.std() > 0 else 0.0
    if abs(correlation) < LEAST_CORRELATION:
        return None, f"the reconstruction is too different from the clip (correlation {correlation:.2f})"
    # regress the clip on the reconstruction: the reverse would report lost detail as a gain below 1
    gain = float(frames.var()) / covariance
    offset = float(frames.mean()) - gain * float(video.mean())
    sentence = f"the reconstruction is {gain:.3f} x the clip {'-' if offset < 0 else '+'} {abs(offset):.3f}"
    return abs(gain - 1) <= GAIN and abs(offset) <= OFFSET, sentence


def frame_shift(subject: Subject) -> Answer:
    """Frame t of the reconstruction is more similar to frame t of the clip than to frames t-2, t-1, t+1 and t+2."""
    if subject.weights == "random":
        return None, "an untrained VAE reconstructs nothing"
    video = _smooth(subject, speed=3)
    frames = subject.reconstruct(video).float()
    inner = slice(SHIFTS.stop - 1, video.shape[2] - (SHIFTS.stop - 1))
    errors = {shift: error(video.roll(shift, 2)[:, :, inner], frames[:, :, inner]) for shift in SHIFTS}
    best = min(errors, key=lambda shift: errors[shift])
    if errors[best] > (1 - LEAST_CORRELATION**2) * float(video.var()):
        return None, "the reconstruction is too different from the clip at every shift"
    if errors[best] > CLEARLY * max(errors.values()):
        return None, "the reconstruction is equally similar to the clip at every shift"
    if errors[best] < CLEARLY * errors[0]:
        return False, f"the reconstruction is {abs(best)} frame(s) {'late' if best > 0 else 'early'}"
    return (
        True,
        f"shift 0 has the smallest error (mean squared errors at shifts -2 to 2: {', '.join(f'{e:.1e}' for e in errors.values())})",
    )


def clamping(subject: Subject) -> Answer:
    """Whether decode clamps pixels to -1..1 as the spec says; scaled latents should give pixels beyond that range."""
    latent, claimed = subject.encode(subject.clip(1)), subject.vae.spec.clamps
    claim = f"the spec says clamps={claimed}"
    for factor in (1, 2, 4, 8, 16, 32):
        # more than the network has learned may overflow: that says nothing about clamping
        pixels = (subject.vae.decode(latent * factor) if factor > 1 else subject.decode(latent)).abs()
        if pixels.max() > 1 + 1e-3:
            return not claimed, f"latents x {factor} give pixels up to {float(pixels.max()):.3g}; {claim}"
        at_the_limit = float((pixels >= 1 - 1e-6).double().mean())
        just_below = float(((pixels > 0.99) & (pixels < 1 - 1e-6)).double().mean())
        if at_the_limit > 1e-3:
            if just_below > at_the_limit:
                return None, "the network itself ends in a bounded function"
            return claimed, f"decode clamps: latents x {factor} give {at_the_limit:.1%} of pixels at 1 exactly; {claim}"
    return None, "no tested latent gives pixels beyond -1..1"


def precision(subject: Subject) -> Answer:
    """The response to small steps of the input is linear, as float32 arithmetic gives; lower precision rounds it away."""
    if subject.config.dtype != "float32":
        return None, f"the test needs dtype=float32, got {subject.config.dtype}"
    video = subject.clip(subject.vae.spec.temporal_compression + 1, _side(subject))
    latent = subject.encode(video)
    sentences = []
    for half, function, value in (("encode", subject.encode, video), ("decode", subject.decode, latent)):
        if half == "encode" and quantised(latent):
            sentences.append("encode is quantised")
            continue
        rounding = _rounding(function, value)
        if rounding > MOST_ROUNDING:
            return (
                False,
                f"{half} uses less than float32 precision: {rounding:.0%} of its response to small steps is rounding error",
            )
        sentences.append(f"{half} {rounding:.1%}")
    return True, f"rounding error in the response to small steps: {', '.join(sentences)}"


def _rounding(function: Callable[[Tensor], Tensor], value: Tensor) -> float:
    """RMS of f(x + 2d) - 2 f(x + d) + f(x), relative to that of f(x + 2d) - f(x), for a small step d."""
    value = value.double()
    direction = STEP * float(value.std()) * (0.5 + torch.linspace(0, 1, value.numel(), device=value.device).sin().abs())
    start, once, twice = (function((value + k * direction.view_as(value)).float()).double() for k in (0, 1, 2))
    moved = float((twice - start).square().mean().sqrt())
    return float((twice - 2 * once + start).square().mean().sqrt()) / moved if moved else 1.0


def _smooth(subject: Subject, speed: float) -> Tensor:
    return smooth(subject.vae.spec.fit(17), _side(subject), speed).to(subject.video.device)


def _side(subject: Subject) -> int:
    """Frame size with at least eight latents per side: smaller frames lose too much detail for a comparison."""
    spec = subject.vae.spec
    return max(subject.video.shape[-1], -(-8 * spec.spatial_compression // spec.size_multiple) * spec.size_multiple)
