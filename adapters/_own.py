"""What families share: the body of those whose networks are written here (`_nets/`), and checkpoints of one's own.

torch is imported inside functions only.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from vaebench.vae import Posterior, VAESpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vaebench.video import Latent, Video

    Item = TypeVar("Item")
    Network = TypeVar("Network", bound=nn.Module)


class OwnVAE:
    """A VideoVAE around a network, in one mode.

    `encode` and `decode` run the network in that mode: (B, 3, T, H, W) -> moments (B, 2 c, t, h, w), mean before log
    variance, and (B, c, t, h, w) -> (B, 3, T, H, W).  Where `has_variance` is False, `encode` gives the latent itself,
    (B, c, t, h, w).  `hazards` are what goes wrong, by name of dtype.
    """

    def __init__(
        self,
        spec: VAESpec,
        model: nn.Module,
        encode: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor],
        *,
        device: torch.device | str,
        dtype: torch.dtype | None,
        hazards: Mapping[str, str] = MappingProxyType({}),
        has_variance: bool = True,
    ) -> None:
        import torch

        self.spec = spec
        self.device = torch.device(device)
        self.dtype = dtype or torch.float32
        hazard = hazards.get(str(self.dtype).removeprefix("torch."))
        if hazard:
            warnings.warn(f"{spec.name} in {self.dtype}: {hazard}", stacklevel=3)
        self.model = model.to(self.device, self.dtype).eval().requires_grad_(False)
        self._encode = encode
        self._decode = decode
        self._has_variance = has_variance

    def encode(self, video: Video) -> Posterior:
        import torch

        check_legal(self.spec, video)
        with torch.no_grad():
            moments = self._encode(video.to(self.device, self.dtype)).float()
        if not self._has_variance:
            return Posterior(moments)
        mean, logvar = moments.chunk(2, dim=1)
        return Posterior(mean, logvar)

    def decode(self, latent: Latent) -> Video:
        import torch

        with torch.no_grad():
            return self._decode(latent.to(self.device, self.dtype)).float()


def without_gradients(stream: Iterator[Item]) -> Iterator[Item]:
    """The items of a stream, each computed without gradients; between them, its caller's setting is as it was."""
    import torch

    while True:
        with torch.no_grad():
            try:
                item = next(stream)
            except StopIteration:
                return
        yield item


def check_mode(spec: VAESpec, mode: str) -> None:
    if mode not in spec.modes:
        raise ValueError(f"{spec.name} has no mode {mode!r} (it has: {', '.join(spec.modes)})")


def check_legal(spec: VAESpec, video: Video) -> None:
    """ValueError for a length or size of which the network would silently lose frames or pixels."""
    frames, height, width = video.shape[2:]
    if not spec.frames.allows(frames):
        raise ValueError(
            f"{spec.name} takes {spec.frames} frames, got {frames}; pad to {spec.fit(frames)} (vaebench.vae.pad)"
        )
    if height % spec.size_multiple or width % spec.size_multiple:
        raise ValueError(
            f"{spec.name} takes height and width in multiples of {spec.size_multiple}, got {height}x{width}; "
            "pad first (vaebench.vae.pad)"
        )


def read_json(file: Path) -> dict[str, Any]:
    """The config.json beside weights; ValueError naming the file if it holds anything but an object."""
    try:
        config = json.loads(file.read_text())
    except ValueError as reason:
        raise ValueError(f"{file} is not JSON: {reason}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} should hold a JSON object, got a {type(config).__name__}")
    return config


def check_described(spec: VAESpec, file: Path, latent_channels: int) -> None:
    """ValueError for a config.json of a network whose latent is not that of `spec`."""
    if latent_channels != spec.latent_channels:
        raise ValueError(
            f"{file} describes a latent of {latent_channels} channels, that of {spec.name} has {spec.latent_channels}: "
            "run it as a variant with such a latent and weights=PATH"
        )


def filled(
    build: Callable[[], Network], state: Mapping[str, Any], file: Path, name: str, published: Callable[[str], str] = str
) -> Network:
    """A network with the tensors of a file, strictly; its own first weights are never drawn.

    Raises ValueError naming `file`, and the network whose weights it looks like if that is not `name`.
    """
    import torch

    from adapters._layouts.recognise import fill

    with torch.device("meta"):
        model = build()
    fill(model, state, file, name=name, published=published)
    return model


def shapes_of(build: Callable[[], nn.Module]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor of a network, without its weights."""
    import torch

    with torch.device("meta"):
        return {key: tuple(value.shape) for key, value in build().state_dict().items()}


def of_ones_own(base: VAESpec, path: str, **known: Any) -> VAESpec:
    """`base` as the spec of the checkpoint at `path`: none of the release's claims to be its weights are kept."""
    own = {"variant": variant_of(path), "source": "", "sha256": "", "reference": "a checkpoint of one's own"}
    return replace(base, **{**own, **known})


def variant_of(path: str) -> str:
    """The variant of a user checkpoint: the last two parts of its path, a/ckpt.pt -> a-ckpt, at most 60 characters.

    Parts that every training run has are left out: a/checkpoints/step-8/diffusion_pytorch_model.safetensors -> a-step-8.
    """
    place = Path(os.path.abspath(Path(path).expanduser()))
    own = [*place.parent.parts[1:], place.name if place.is_dir() else place.stem]
    telling = [part for part in own if part not in ("checkpoints", "diffusion_pytorch_model")]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join((telling or own)[-2:]))[-60:]


def untrained(build: Callable[[], Network], base: VAESpec) -> tuple[Network, VAESpec]:
    """A network with random weights, the same for everyone (seed 0), and `base` as the spec of such a one."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model, replace(base, variant="tiny", source="", sha256="", parameters=parameters)
