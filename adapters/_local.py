"""The body of the families whose networks are written here (`_nets/`), and the specs of user checkpoints.

A family describes itself in one `OwnFamily`: its released configurations, its network, how its files are read, and what each mode
runs.  torch is imported inside functions only.
"""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vaebench import weights as weight_files
from vaebench.vae import Posterior, VAESpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from vaebench.video import Latent, Video

    Item = TypeVar("Item")
    Network = TypeVar("Network", bound=nn.Module)
    State = Mapping[str, Any]

Config = TypeVar("Config")


def read_state(file: Path) -> State:
    """The tensors of a file and, of weights in shards, of all of them; ValueError for a file that holds anything else."""
    from adapters._nets import checkpoint

    return checkpoint.read_state(file)


def all_tensors(state: State) -> State:
    """A file that holds the VAE alone."""
    return state


def _accept(model: Any, file: Path) -> None:
    """A family whose keys and shapes say enough."""


def _keep(model: Any) -> None:
    """A network that runs with PyTorch's random weights as they are."""


@dataclass(frozen=True)
class OwnFamily(Generic[Config]):
    """One family whose network is in `_nets/`."""

    variants: Mapping[str, VAESpec]
    config: Callable[[str], Config]  # variant -> the released configuration
    small: Callable[[str], Config]  # variant -> the configuration of `tiny`
    network: Callable[[Config], Any]  # configuration -> nn.Module
    vae: Callable[..., OwnVAE]  # (spec, network, mode, *, device, dtype): what the mode runs
    read: Callable[[Path], State] = read_state
    tensors: Callable[[State], State] = all_tensors  # content of a file -> the tensors of the VAE
    published: Callable[[str, Config], str] = lambda key, config: key  # our key -> that of the release
    read_config: Callable[[Mapping[str, Any]], Config] | None = None  # config.json beside the weights; None: not read
    check: Callable[[Any, Path], None] = _accept  # ValueError if a filled network is not that of the specs
    initialise: Callable[[Any], None] = _keep  # changes the random weights of `tiny`

    def load(
        self,
        spec: VAESpec,
        *,
        weights: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        mode: str = "whole",
    ) -> Any:
        """The released weights or a user checkpoint, strictly.

        Raises:
            ValueError: unknown mode, or a file or config.json of another network
            vaebench.weights.Unavailable: the weights are not on this machine
        """
        check_mode(spec, mode)
        if weights == weight_files.RANDOM:
            model = self.network(self.config(spec.variant))
            return self.vae(spec, model, mode, device=device, dtype=dtype)
        file = weight_files.released(spec.source, weights, spec.name)[0]
        described = self._described(spec, file)
        state = self.tensors(self.read(file))
        config = described or self.config(spec.variant if spec.source else self.nearest(state))
        model = filled(lambda: self.network(config), state, file, spec.name, lambda key: self.published(key, config))
        self.check(model, file)
        return self.vae(spec, model, mode, device=device, dtype=dtype)

    def tiny(
        self,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        mode: str = "whole",
        variant: str = "",
    ) -> Any:
        """A narrow network with random weights, the same for everyone (seed 0)."""
        base = self.variants[variant or next(iter(self.variants))]
        check_mode(base, mode)
        model, spec = untrained(lambda: self.network(self.small(base.variant)), base)
        self.initialise(model)
        return self.vae(spec, model, mode, device=device, dtype=dtype)

    def spec_of(self, path: str) -> VAESpec:
        """The spec of a user checkpoint: that of the variant with most tensors in common, under the name of the file."""
        state = self.tensors(self.read(weight_files.find("", path)))
        return spec_of_checkpoint(self.variants[self.nearest(state)], path)

    def expected_shapes(self, variant: str) -> dict[str, tuple[int, ...]]:
        """The shapes of a released network, by published key."""
        config = self.config(variant)
        shapes = shapes_of(lambda: self.network(config))
        return {self.published(key, config): shape for key, shape in shapes.items()}

    def shapes_in(self, state: State) -> dict[str, tuple[int, ...]]:
        """The shapes of the VAE's tensors in a file, by published key."""
        return {key: tuple(value.shape) for key, value in self.tensors(state).items()}

    def nearest(self, state: State) -> str:
        """The first variant that shares most tensors with a file; strict loading names the differences."""
        if len(self.variants) == 1:
            return next(iter(self.variants))
        shapes = {(key, getattr(value, "shape", None)) for key, value in state.items()}
        return max(self.variants, key=lambda variant: len(self.expected_shapes(variant).items() & shapes))

    def _described(self, spec: VAESpec, file: Path) -> Config | None:
        """The configuration in the config.json beside the weights; None without one."""
        beside = file.with_name("config.json")
        if self.read_config is None or not beside.is_file():
            return None
        try:
            config: Any = self.read_config(read_json(beside))
        except KeyError as key:
            raise ValueError(f"{beside} does not describe a network like {spec.name}: it has no {key}") from None
        if config.latent_channels != spec.latent_channels:
            raise ValueError(
                f"{beside} describes a latent of {config.latent_channels} channels, that of {spec.name} has "
                f"{spec.latent_channels}: run it as a variant with such a latent and weights=PATH"
            )
        return config


class OwnVAE:
    """A VideoVAE around a network, in one mode.

    `encode` and `decode` run the network in that mode: (B, 3, T, H, W) -> moments (B, 2 c, t, h, w), mean before log
    variance, and (B, c, t, h, w) -> (B, 3, T, H, W).  Where `has_variance` is False, `encode` gives the latent itself,
    (B, c, t, h, w).  `dtype_warnings` says what goes wrong, by name of dtype.
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
        dtype_warnings: Mapping[str, str] = MappingProxyType({}),
        has_variance: bool = True,
    ) -> None:
        import torch

        self.spec = spec
        self.device = torch.device(device)
        self.dtype = dtype or torch.float32
        if warning := dtype_warnings.get(str(self.dtype).removeprefix("torch.")):
            warnings.warn(f"{spec.name} in {self.dtype}: {warning}", stacklevel=3)
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
    """The items of a stream, each computed without gradients; the caller's gradient mode is restored between items."""
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
    """ValueError for a length or size of which the network would silently drop frames or pixels."""
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
    except (ValueError, RecursionError) as reason:  # the second of lists that are nested too deeply
        raise ValueError(f"{file} is not JSON: {reason}") from None
    if not isinstance(config, dict):
        raise ValueError(f"{file} should hold a JSON object, got a {type(config).__name__}")
    return config


def filled(
    build: Callable[[], Network], state: Mapping[str, Any], file: Path, name: str, published: Callable[[str], str] = str
) -> Network:
    """A network with the tensors of a file, loaded strictly; no random weights are drawn.

    Raises:
        ValueError: the file does not fit; the message names it, and the network that it looks like if that is not `name`
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


def spec_of_checkpoint(base: VAESpec, path: str, **changes: Any) -> VAESpec:
    """The spec of the user checkpoint at `path`: `base` without the source, digest and reference of the release."""
    checkpoint = {"variant": variant_of(path), "source": "", "sha256": "", "reference": "user checkpoint"}
    return replace(base, **{**checkpoint, **changes})


def variant_of(path: str) -> str:
    """The variant of a user checkpoint: the last two parts of its path, a/ckpt.pt -> a-ckpt, at most 60 characters.

    Parts that every training run has are left out: a/checkpoints/step-8/diffusion_pytorch_model.safetensors -> a-step-8.
    """
    absolute = Path(os.path.abspath(Path(path).expanduser()))
    parts = [*absolute.parent.parts[1:], absolute.name if absolute.is_dir() else absolute.stem]
    distinctive = [part for part in parts if part not in ("checkpoints", "diffusion_pytorch_model")]
    return re.sub(r"[^A-Za-z0-9._-]+", "_", "-".join((distinctive or parts)[-2:]))[-60:]


def untrained(build: Callable[[], Network], base: VAESpec) -> tuple[Network, VAESpec]:
    """A network with random weights, the same for everyone (seed 0), and its spec, made from `base`."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return model, replace(base, variant="tiny", source="", sha256="", parameters=parameters)
