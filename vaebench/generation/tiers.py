"""The tiers of the diffusability suite: what each one trains and samples, and which options apply to it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from vaebench.config import RunConfig
from vaebench.generation.extractors import FVD_NETWORKS, SCORED
from vaebench.generation.latte.model import SIZES
from vaebench.generation.latte.train import TrainConfig
from vaebench.generation.sampling import Sampling
from vaebench.options import DiffusabilityOptions as Options
from vaebench.options import refuse_unused


@dataclass(frozen=True)
class Tier:
    """A preset of the suite."""

    label: str  # in the setting's name
    shape: tuple[int, int, int] | None  # depth, hidden size and heads of the Latte; None: latent statistics only
    train: TrainConfig
    sampling: Sampling
    samples: int  # generated videos
    windows: int  # per video; twice as many where the data is flipped
    held_out: float  # fraction of the scenes; the paper trains on all of them
    size: int = 0  # pixels; 0: that of the run


TIERS = {
    "0": Tier("tier0", None, TrainConfig(), Sampling("250", "ddpm", 1.0), 0, 1, 0.0),
    "1": Tier(
        "tier1",
        SIZES["B"],
        TrainConfig(steps=20_000, batch=64, learning_rate=2e-4, warmup=500, ema_decay=0.999, checkpoint_every=1_000),
        Sampling("50", "ddim", 4.0),
        2048,
        4,
        1 / 16,
    ),
    "2": Tier("tier2", SIZES["L"], TrainConfig(), Sampling("250", "ddpm", 7.0), 2048, 4, 0.0),
    "smoke": Tier(
        "smoke-test",
        (4, 128, 4),
        TrainConfig(steps=150, batch=8, learning_rate=2e-3, warmup=20, ema_decay=0.97, checkpoint_every=75),
        Sampling("20", "ddim", 1.0),
        8,
        4,
        0.25,
        64,
    ),
}
COUNTS = ("steps", "batch", "samples", "windows", "clip_frames", "interval")
SWITCHES = ("real_selection", "covariance", "frame_codec", "frame_resize", "real_resize")  # of the published protocols
OF_LATENTS = ("tier", "windows", "clip_frames", "interval", "scaling", "frame_resize")  # the options of tier 0


def adjusted(config: RunConfig, options: Options) -> Tier:
    """The tier of a run, with the options that the user set in place of its own values."""
    tier = TIERS[options.tier]
    train = replace(
        tier.train,
        steps=options.steps or tier.train.steps,
        batch=options.batch or tier.train.batch,
        micro_batch=options.micro_batch,
        clip_from=20_000 if config.data == "skytimelapse" else tier.train.clip_from,
        seed=tier.train.seed + config.seed,
    )
    guidance = options.guidance or tier.sampling.guidance
    sampling = replace(tier.sampling, guidance=guidance if config.data == "ucf101" else 1.0)  # needs classes
    samples, windows = options.samples or tier.samples, options.windows or tier.windows
    return replace(tier, train=train, sampling=sampling, samples=samples, windows=windows)


def changed(options: Options) -> list[str]:
    """The options that differ from their defaults, as parts of the setting's name."""
    default = Options()
    names = (*COUNTS, "guidance", "guided_channels", "scaling", *SWITCHES, "real_stride")
    parts = [
        f"{name.replace('_', '-')}-{getattr(options, name)}"
        for name in names
        if getattr(options, name) != getattr(default, name)
    ]
    return parts + (
        [f"features-{'+'.join(options.features) or 'none'}"] if options.features != default.features else []
    )


def check(config: RunConfig, options: Options) -> None:
    """Refuse invalid options and options that the tier or the data set does not use.

    Raises:
        ValueError: naming the option, its value and the reason
    """
    if unknown := set(options.features) - set(FVD_NETWORKS):
        raise ValueError(f"no features {', '.join(sorted(unknown))} (available: {', '.join(FVD_NETWORKS)})")
    for name in (*COUNTS, "micro_batch", "guidance", "real_stride"):
        if getattr(options, name) < 0:
            raise ValueError(f"{name}={getattr(options, name)} should be 0 or more")
    if options.interval < 1:
        raise ValueError(f"interval={options.interval} should be 1 or more")
    if options.tier != "0" and 0 < options.clip_frames < SCORED:
        raise ValueError(
            f"clip_frames={options.clip_frames}: FVD16 and IS need {SCORED} frames; set {SCORED} or more, or leave it out"
        )
    refuse_unused(options, _unused(config, options))
    if size := TIERS[options.tier].size:
        refuse_unused(config, {} if config.size == size else {"size": f"tier={options.tier} uses {size} pixels"})


def _unused(config: RunConfig, options: Options) -> dict[str, str]:
    """The options that would change nothing but the setting's name -> why."""
    unused: dict[str, str] = {}
    if config.data not in ("ucf101", "skytimelapse"):
        reason = f"only ucf101 and skytimelapse are resized in several ways, not data={config.data}"
        unused |= {"frame_resize": reason, "real_resize": reason}
    if config.data != "ucf101":
        reason = f"guidance needs a class-conditional model, and data={config.data} has no classes"
        unused |= {"guidance": reason, "guided_channels": reason}
    if options.tier == "0":
        unused |= {
            option.name: "tier=0 trains no model and generates no video"
            for option in fields(Options)
            if option.name not in OF_LATENTS
        }
    return unused
