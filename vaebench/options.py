"""The options of the suites.  This module does not import torch, so that `vaebench run --help` is fast.

A suite of another package defines `Options` in its own module, which is imported when the options are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from vaebench import plugins
from vaebench.frame_size import Size, plain
from vaebench.settings import setting, split_list


def _sizes(given: Any, key: str) -> list[Size]:
    """A list of sizes, text or values; a single size becomes a list with one item."""
    items = split_list(given, key) if isinstance(given, str) else given if isinstance(given, list | tuple) else [given]
    return [plain(item, key) for item in items]


def _batch_size(given: Any, key: str) -> int | Literal["auto"]:
    """A number of clips from text or a value, or "auto"."""
    if given == "auto":
        return "auto"
    number = int(given) if isinstance(given, str) and given.isdecimal() else given
    if type(number) is not int or number < 1:
        raise ValueError(f"{key}={given} should be a number of clips, 1 or more, or auto")
    return number


@dataclass(frozen=True)
class ReconstructionOptions:
    metrics: list[str] = setting([], "metrics to compute; see `vaebench list metrics`; default: set by the protocol")
    sizes: list[Size] = setting(
        [], "evaluate at each of these sizes, such as 256,480x832, with a record each; default: size only", parse=_sizes
    )
    keep: list[str] = setting(
        [],
        "save the first, middle and last frame of some clips as PNG: of the first N (keep=3), of clips by id "
        "(keep=bundle/hangar_low_light), or of the N with the worst score of the first metric (keep=worst:3)",
    )
    keep_video: list[str] = setting(
        [],
        "save all frames of some clips, chosen as in keep, as lossless video (FFV1), for `vaebench report`, "
        "`vaebench compare --out` and other tools",
    )
    keep_latents: bool = setting(False, "store the latents, so that metrics added later need no encoder pass")
    batch_size: int | Literal["auto"] = setting(
        1,
        "number of clips in a call of the VAE: faster for small VAEs on a GPU, but needs more memory, and scores may differ by "
        "rounding; auto: as many as fit into half of the free memory of the GPU, at most 32; 1 on a CPU",
        parse=_batch_size,
    )


@dataclass(frozen=True)
class BlockwiseOptions:
    metrics: list[str] = setting(
        [], "metrics to compute (see `vaebench list metrics`); default: psnr,ssim,lpips,fvd, or those of the protocol"
    )
    lengths: list[int] = setting([], "clip lengths to evaluate, in frames; default: num_frames only")
    chunks: list[int] = setting([], "also stream in chunks of N frames, for VAEs that support streaming")
    independent: list[int] = setting(
        [16], "also evaluate independent chunks of N frames (rounded up to a valid length)"
    )
    require: Literal["", "lossless"] = setting(
        "", "lossless: exit with code 1 if a mode that claims to be lossless changes the output (needs posterior=mode)"
    )
    keep: int = setting(
        0,
        "save the frame with the largest difference between the modes, of each mode and of the first N clips, as PNG; "
        "`vaebench plot --only seams` shows them",
        at_least=0,
    )


@dataclass(frozen=True)
class EfficiencyOptions:
    frames: list[int] = setting(
        [], "clip lengths in frames (rounded up to a valid length); default: 33 on a GPU, 5 on a CPU"
    )
    sizes: list[Size] = setting(
        [],
        "sides of squares in pixels, or height x width such as 480x832; default: 256,512,768 on a GPU, 64 on a CPU",
        parse=_sizes,
    )
    dtypes: list[Literal["float32", "bfloat16", "float16"]] = setting(
        [], "dtypes to measure; default: the dtype of the run"
    )
    error: float = setting(0.02, "repeat until the 95 % interval of the mean time is within this fraction of the mean")
    max_seconds: float = setting(
        10.0, "stop repeating after this many seconds, per encode and per decode (at least 3 repeats)"
    )
    compile: bool = setting(False, "compile encode and decode with torch.compile; compilation counts as warm-up")
    channels_last: bool = setting(False, "store the weights in channels-last memory format")
    largest: bool = setting(False, "also find the largest number of frames that fits into memory at each size")
    memory_gib: float = setting(0.0, "limit the memory of the device, in GiB; 0 = no limit")
    timeout_s: float = setting(900.0, "abort a measurement after this many seconds")


@dataclass(frozen=True)
class TokensOptions:
    seconds: list[float] = setting(
        [], "durations of the video in seconds (rounded up to a valid number of frames); default: 5,60"
    )
    frames: list[int] = setting([], "clip lengths in frames (rounded up to a valid length), instead of seconds")
    frame_size: str = setting(
        "480x832", "height x width in pixels, or the side of a square (rounded up to whole patches)"
    )
    fps: float = setting(0.0, "frames per second; 0 = 24, and the frame rate of each system in its windows")
    patch: str = setting(
        "", "patch of the denoiser, as 1x2x2 (latent frames, rows, columns); default: that of the VAE's system"
    )


@dataclass(frozen=True)
class LatentOptions:
    noise: list[float] = setting(
        [0.01, 0.02, 0.025, 0.05, 0.0707, 0.1, 0.2, 0.4],
        "noise levels of the decoder's curves, ascending, in standard deviations of each channel; two decoder passes per level; "
        "[]: none",
    )
    masks: list[float] = setting(
        [0.25, 0.5, 0.75], "shares of latent positions to replace by the channel means, ascending, up to 1; []: none"
    )
    keep: list[str] = setting(
        [],
        "save two frames of some clips as PNG: of the first N (keep=3), or of clips by id (keep=bundle/hangar_low_light); "
        "`vaebench plot --only subbands` shows their eight Haar sub-bands",
    )


@dataclass(frozen=True)
class DiffusabilityOptions:
    tier: Literal["0", "1", "2", "smoke"] = setting(
        "1", "preset: 0 (latent statistics only), 1 (Latte-B), 2 (Latte-L, as published) or smoke (toy network)"
    )
    steps: int = setting(0, "training steps; 0 = set by the tier")
    batch: int = setting(0, "clips per training step; 0 = set by the tier")
    micro_batch: int = setting(0, "clips per forward pass (less memory); 0 = the whole batch")
    samples: int = setting(0, "number of generated videos, and of real clips to compare with; 0 = set by the tier")
    windows: int = setting(0, "training windows per video; 0 = set by the tier")
    clip_frames: int = setting(0, "frames per window; 0 = shortest valid length of at least 16 (17 for causal 4x VAEs)")
    interval: int = setting(3, "stride between the frames of a window, in source frames")
    guidance: float = setting(
        0.0, "classifier-free guidance scale of a conditional model; 1 = no guidance, 0 = set by the tier"
    )
    guided_channels: Literal["all", "official-first-4"] = setting(
        "all", "latent channels to guide; official-first-4: the first four, as in the official code"
    )
    scaling: Literal["measured", "published"] = setting(
        "measured",
        "latent normalization; measured: on the training latents, published: the VAE's own shift and scale",
    )
    features: list[str] = setting(["i3d"], "features for FVD and KVD: i3d, i3d_videogpt, videomae_ssv2")
    real_selection: Literal["random", "first2048"] = setting(
        "random", "selection of the real clips to compare with; first2048: the first 2048, as StyleGAN-V"
    )
    real_stride: int = setting(0, "frame stride of real clips; 0 = same as training, 1 = as StyleGAN-V's tool")
    covariance: Literal["unbiased", "biased"] = setting(
        "unbiased", "divisor of covariances; unbiased: n - 1, biased: n (as StyleGAN-V and cd-fvd)"
    )
    frame_codec: Literal["none", "jpeg75"] = setting(
        "none", "jpeg75: compress real and generated frames as JPEG at quality 75 before scoring"
    )
    frame_resize: Literal["antialiased", "latte"] = setting(
        "antialiased", "resizing of training clips; latte: as in Latte's data loaders"
    )
    real_resize: Literal["learned", "latte-tool", "styleganv-tool", "cdfvd"] = setting(
        "learned", "resizing of real clips; learned: same as training"
    )


@dataclass(frozen=True)
class RelayOptions:
    protocols: list[str] = setting(
        ["loop", "static"],
        "how windows of a long video hand over frames: loop, static, ltx-first-frame, ltx-latent, skyreels-v2, "
        "skyreels-v2-latent, svi-film, svi-shot",
    )
    hops: int = setting(9, "number of times that frames are decoded, processed and encoded again", at_least=1)
    content: Literal["copy", "teacher"] = setting(
        "copy",
        "what a window shows behind the carried frames; copy: the last one repeated (worst case), "
        "teacher: the true video plus the colour error of the last one",
    )
    window: int = setting(
        0, "shorten windows to at most N frames, with the same overlap; 0 = the length of the protocol", at_least=0
    )
    keep: int = setting(0, "save the frames at hops 0, 1, 2, 5 and 9 of the first N clips as PNG", at_least=0)


OURS: dict[str, type[Any]] = {
    "reconstruction": ReconstructionOptions,
    "blockwise": BlockwiseOptions,
    "efficiency": EfficiencyOptions,
    "tokens": TokensOptions,
    "latent": LatentOptions,
    "diffusability": DiffusabilityOptions,
    "relay": RelayOptions,
}


def refuse_unused(settings: Any, reasons: Mapping[str, str]) -> None:
    """Refuse settings that would change nothing, so that no user believes that they did.

    Args:
        settings: an instance of a dataclass of settings, such as `RunConfig` or the options of a suite
        reasons: unused setting -> why it is unused, and what to set instead

    Raises:
        ValueError: an unused setting differs from its default
    """
    default = type(settings)()
    unused = [name for name in reasons if getattr(settings, name) != getattr(default, name)]
    if unused:
        listed = ", ".join(f"{name}={getattr(settings, name)}" for name in unused)
        raise ValueError(f"{listed} would change nothing: {'; '.join(dict.fromkeys(reasons[name] for name in unused))}")


@dataclass(frozen=True)
class NoOptions:
    """The options of a suite without options."""


def options_of(suite: str) -> type[Any]:
    """The dataclass of the options of a suite.

    Raises:
        ValueError: the suite is unknown
    """
    if suite in OURS:
        return OURS[suite]
    kind: type[Any] = getattr(plugins.find("suites", suite), "Options", NoOptions)
    return kind
