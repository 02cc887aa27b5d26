"""WF-VAE, our implementation: the released weights, and the example of a VAE that takes a video in chunks.

Li et al., WF-VAE: Enhancing Video VAE by Wavelet-Driven Energy Flow, arXiv 2411.17459.  Modes: "whole" is one pass, which is also
what the released code does by default ("native"); "streamed" runs in chunks through the Causal Cache, in memory that does not
grow with the length, and equals "whole" up to rounding.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters._local import check_legal, check_mode, shapes_of, spec_of_checkpoint, untrained
from vaebench import weights as weight_files
from vaebench.vae import FrameRule, Posterior, VAESpec

if TYPE_CHECKING:
    import torch

    from vaebench.video import Latent, Video
    from wfvae import WFVAE, WFVAEConfig

L16 = VAESpec(
    family="wfvae",
    variant="l-16",
    temporal_compression=4,
    spatial_compression=8,
    latent_channels=16,
    causal=True,
    frames=FrameRule(4, 1),
    size_multiple=8,
    modes=("whole", "streamed", "native"),
    lossless_modes=("streamed", "native"),
    source="hf:chestnutlzj/WF-VAE-L-16Chn@39cab59eb41c279a6fa7083962e6bdcfeab2bc21:diffusion_pytorch_model.safetensors",
    license="Apache-2.0",
    reference="arXiv 2411.17459",
    parameters=84_586_912 + 232_494_332,
    scale=0.18215,  # in the released config.json
)
# of Open-Sora-Plan 1.5: `ae` in its examples/opensoraplan1.5/inference_t2v_model1_5.json
SCALE32 = (0.7031, 0.7109, 1.5391, 1.2969, 0.7109, 1.4141, 1.3828, 2.1719, 1.7266, 1.8281, 1.9141,
           1.2031, 0.6875, 0.9609, 1.6484, 1.1875, 1.5312, 1.1328, 0.8828, 0.6836, 0.8828, 0.9219,
           1.6953, 1.4453, 1.5312, 0.6836, 0.7656, 0.8242, 1.2344, 1.0312, 1.7266, 0.9492)  # fmt: skip
SHIFT32 = (-0.2129, 0.1226, 1.6328, 0.6211, -0.8750, 0.6172, -0.5703, 0.1348, -0.2178, -0.9375, 0.3184,
           0.3281, -0.0544, -0.1826, -0.2812, 0.4355, 0.1621, -0.2578, 0.7148, -0.7422, -0.2295, -0.2324,
           -1.4922, 0.6328, 1.1250, -0.2578, -2.1094, 1.0391, 1.1797, -1.2422, -0.2988, -0.9570)  # fmt: skip
VARIANTS = {
    "l-16": L16,
    "s-8": replace(
        L16,
        variant="s-8",
        latent_channels=8,
        source="hf:LanguageBind/Open-Sora-Plan-v1.3.0@1176b850fff7c33f3b28b2cae1bf8326f11f4b17:vae/merged.ckpt",
        license="MIT",
        parameters=38_268_176 + 108_394_428,
        note="of Open-Sora-Plan 1.3, with an encoder distilled from OD-VAE; its authors advise against it; the file name is "
        "unconfirmed; its examples name 64 channels for the energy flow of the encoder, not 128: if the file is refused, put its "
        "config.json beside it and run wfvae:FOLDER",
    ),
    "m-32-8x8x8": replace(
        L16,
        variant="m-32-8x8x8",
        temporal_compression=8,
        latent_channels=32,
        frames=FrameRule(8, 1),
        source="hf:LanguageBind/Open-Sora-Plan-v1.5.0@main:wfvae_888_dim32.ckpt",
        license="unknown; see the model card",
        parameters=60_326_272 + 166_709_352,
        scale=SCALE32,
        shift=SHIFT32,
        note="of Open-Sora-Plan 1.5; the commit and the file name are unconfirmed",
    ),
    **{
        variant: replace(
            L16,
            variant=variant,
            latent_channels=4,
            source=f"{weight_files.UNRELEASED}{variant}",
            parameters=parameters,
            note="in the paper, but its weights were never released: its cost can be measured; train it for scores",
        )
        for variant, parameters in (("s-4", 146_496_708), ("m-4", 223_252_388), ("l-4", 316_334_724))
    },
    "tiny": replace(
        L16,
        variant="tiny",
        latent_channels=8,
        source="package:wfvae:weights/tiny.safetensors",
        sha256="99e4602c84e685a17e7337d9eca592cf3da317314960f5ccde3013b85689e294",
        reference="wfvae/weights/MODEL_CARD.md",
        parameters=2_011_004,
        scale=1.0,
        note="a small demonstration model; it does not represent the released WF-VAEs",
    ),
}
WIDTHS = {"l-16": 192, "s-8": 128, "m-32-8x8x8": 160, "s-4": 128, "m-4": 160, "l-4": 192}
TINY: dict[str, Any] = {
    "base_channels": 32,
    "latent_channels": 8,
    "encoder_flow_channels": 32,
    "decoder_flow_channels": 32,
}
TINY_SPEC = replace(
    L16,
    variant="tiny-random",
    latent_channels=8,
    source="",
    parameters=0,
    scale=1.0,
    note="random weights, to test streaming, time and memory",
)
CHUNK = 4  # latent frames that "streamed" takes at a time


class StreamedWFVAE:
    """A StreamingVAE around the model, in chunks of `chunk` latent frames; 0: the whole video in one pass."""

    def __init__(
        self, spec: VAESpec, model: WFVAE, device: torch.device | str, dtype: torch.dtype | None, chunk: int
    ) -> None:
        import torch

        self.spec = spec
        self.device = torch.device(device)
        self.dtype = dtype or torch.float32
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        self.chunk = chunk

    def encode(self, video: Video) -> Posterior:
        import torch

        check_legal(self.spec, video)
        if self.chunk:
            posteriors = list(self.encode_stream(video.split(self.chunk * self.spec.temporal_compression, dim=2)))
            logvars = [q.logvar for q in posteriors if q.logvar is not None]
            return Posterior(torch.cat([q.mean for q in posteriors], dim=2), torch.cat(logvars, dim=2))
        with torch.no_grad():
            q = self.model.encode(video.to(self.device, self.dtype))
        return Posterior(q.mean.float(), q.logvar.float())

    def decode(self, latent: Latent) -> Video:
        import torch

        with torch.no_grad():
            latent = latent.to(self.device, self.dtype)
            video = self.model.decode_long(latent, self.chunk) if self.chunk else self.model.decode(latent)
        return video.float()

    def encode_stream(self, chunks: Iterable[Video]) -> Iterator[Posterior]:
        """Chunks (B, 3, n, H, W) of one video, cut anywhere -> chunks of its posterior."""
        import torch

        moved = (chunk.to(self.device, self.dtype) for chunk in chunks)
        stream = self.model.encode_stream(moved)
        while True:
            with torch.no_grad():  # not across yield: a generator must not change the gradient mode of its caller
                q = next(stream, None)
            if q is None:
                return
            yield Posterior(q.mean.float(), q.logvar.float())

    def decode_stream(self, chunks: Iterable[Latent]) -> Iterator[Video]:
        """Chunks (B, c, n, h, w) of one latent, cut anywhere -> chunks of its video."""
        import torch

        stream = self.model.decode_stream(chunk.to(self.device, self.dtype) for chunk in chunks)
        while True:
            with torch.no_grad():
                video = next(stream, None)
            if video is None:
                return
            yield video.float()


def load(
    spec: VAESpec,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> StreamedWFVAE:
    """The released weights, or those of a training run, strictly; `weights` is a file or a folder that holds one."""
    import wfvae

    check_mode(spec, mode)
    config = config_of(spec)
    if weights == weight_files.RANDOM:
        model, _ = untrained(lambda: wfvae.WFVAE(config), spec)
    else:
        file = weight_files.find(spec.source, weights, spec.name)
        if spec.sha256 and not weights and weight_files.digest(file) != spec.sha256:
            raise ValueError(f"{spec.name}: {file.name} is not the file that its spec names: reinstall the package")
        described = file.with_name("config.json")
        try:
            model = wfvae.load(file, None if described.is_file() else config)
        except ValueError as reason:
            raise ValueError(f"{reason}{_whose(file, spec.name)}") from None
        size = (model.config.latent_channels, model.config.temporal_compression, _count(model))
        if size != (spec.latent_channels, spec.temporal_compression, spec.parameters):
            raise ValueError(f"{described} describes another network than {spec.name}: run it as wfvae:{file.parent}")
        if described.is_file():
            # a key that is absent has the default of the class in `model.config`, which is not that of the release
            stated = json.loads(described.read_text())
            scale, shift = (
                _normalisation(name, model.config) if name in stated else getattr(spec, name)
                for name in ("scale", "shift")
            )
            spec = replace(spec, scale=scale, shift=shift)
    return StreamedWFVAE(spec, model, device, dtype, CHUNK if mode == "streamed" else 0)


def expected_shapes(variant: str) -> dict[str, tuple[int, ...]]:
    """By published key, of a released network."""
    from wfvae import WFVAE

    return shapes_of(lambda: WFVAE(config_of(VARIANTS[variant])))


def shapes_in(checkpoint: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """By published key, of the tensors of a file."""
    return {key: tuple(value.shape) for key, value in checkpoint.items()}


def _whose(file: Path, name: str) -> str:
    """The end of an error: the network that a file looks like; "" if that is WF-VAE or the file cannot be read."""
    from adapters._layouts.reading import read_vae
    from adapters._layouts.recognise import looks_like

    try:
        return looks_like(read_vae(file), name)
    except ValueError:
        return ""


def tiny(
    *,
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
    variant: str = "l-16",
) -> StreamedWFVAE:
    """A narrow network with random weights, of 4x8x8 or (variant "m-32-8x8x8") 8x8x8."""
    import wfvae

    r = VARIANTS[variant].temporal_compression
    base = replace(TINY_SPEC, temporal_compression=r, frames=FrameRule(r, 1))
    check_mode(base, mode)
    config = wfvae.WFVAEConfig(**{**TINY, "temporal_compression": r})
    model, spec = untrained(lambda: wfvae.WFVAE(config), base)
    return StreamedWFVAE(spec, model, device, dtype, CHUNK if mode == "streamed" else 0)


def checkpoint_of(path: str) -> str:
    """RUN, RUN/checkpoints or RUN/checkpoints/best of `vaebench train` -> its best checkpoint, else its newest.

    Any other path is returned unchanged.

    Raises:
        FileNotFoundError: the run has no checkpoint yet
    """
    given = Path(path).expanduser()
    place = Path(os.path.abspath(given))
    if (place.parent.name, place.name) == ("checkpoints", "best"):
        run = place.parent.parent
    else:
        run = place.parent if place.name == "checkpoints" else place
    if not (run / "checkpoints").is_dir() or (place / "config.json").is_file():
        return path

    from wfvae import state

    best = state.best(run)
    checkpoints = [best] if best and best.is_dir() else state.checkpoints(run)[-1:]
    if not checkpoints:
        raise FileNotFoundError(
            f"{path} has no checkpoint yet; `vaebench train` writes one every trainer.save_every steps"
        )
    return str(checkpoints[0]) if given.is_absolute() else os.path.relpath(checkpoints[0])


def spec_of(path: str) -> VAESpec:
    """The spec of a user checkpoint (a file, or a folder in the official layout), from the config.json beside it."""
    import torch

    from wfvae import WFVAE
    from wfvae.checkpoint import read_config

    place = Path(path).expanduser()
    if not place.exists():
        raise FileNotFoundError(
            f"{place} does not exist: give the folder of a training run, a folder in the official layout, "
            "or a .safetensors or .ckpt file"
        )
    if runs := _runs_in(place):
        raise FileNotFoundError(
            f"{place} is a folder of training runs: name one of them: {', '.join(f'wfvae:{run}' for run in runs)}"
        )
    config = read_config((place if place.is_dir() else place.parent) / "config.json")
    with torch.device("meta"):
        model = WFVAE(config)
    r = config.temporal_compression
    return spec_of_checkpoint(
        L16,
        path,
        temporal_compression=r,
        latent_channels=config.latent_channels,
        frames=FrameRule(r, 1),
        modes=L16.modes if config.streams else ("whole", "native"),
        lossless_modes=L16.lossless_modes if config.streams else ("native",),
        parameters=_count(model),
        scale=_normalisation("scale", config),
        shift=_normalisation("shift", config),
        note="",
    )


def _runs_in(place: Path) -> list[Path]:
    """The training runs in a folder; none in the folder of a checkpoint, and none for a file."""
    if not place.is_dir() or (place / "config.json").is_file():
        return []
    return sorted(found.parent for found in place.glob("*/checkpoints") if found.is_dir())


def _normalisation(name: str, config: WFVAEConfig) -> float | tuple[float, ...]:
    """One value, or one for each latent channel; official files repeat one value, not always for every channel."""
    values: tuple[float, ...] = getattr(config, name)
    if len(set(values)) == 1:
        return values[0]
    if len(values) != config.latent_channels:
        raise ValueError(f"config.json has {len(values)} values of {name} for {config.latent_channels} latent channels")
    return values


def _count(model: WFVAE) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def config_of(spec: VAESpec) -> WFVAEConfig:
    """The network of one of `VARIANTS`, without a config.json beside its weights."""
    from wfvae import WFVAEConfig

    if spec.source.startswith(weight_files.PACKAGE):
        described = weight_files.find(spec.source).with_suffix(".json")
        return WFVAEConfig.from_official(json.loads(described.read_text()))
    if spec.variant not in WIDTHS:
        return WFVAEConfig(**{**TINY, "temporal_compression": spec.temporal_compression})
    return WFVAEConfig(
        base_channels=WIDTHS[spec.variant],
        latent_channels=spec.latent_channels,
        temporal_compression=8 if spec.temporal_compression == 8 else 4,
    )
