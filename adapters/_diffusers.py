"""The body shared by the families that diffusers ships: loading, casts, modes, the posterior, and a clean model after each call.

A family's file says what is its own in one `Family`: the class, the released configurations (data, so that parameters can be
counted and shapes compared without a file), how each mode is forced, and where its encode and decode differ from the usual.
diffusers is imported inside functions only.
"""

from __future__ import annotations

import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from vaebench import weights as places
from vaebench.vae import Posterior, VAESpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vaebench.video import Latent, Video

Config: TypeAlias = Mapping[str, Any]
EVERYTHING = 1 << 30  # a batch of frames that no video fills: one pass over all of them


def _no_change(model: Any, mode: str) -> None:
    """A family whose released code is whole by default."""


def _nothing_kept(model: Any) -> None:
    """A family that keeps no state on its modules."""


def tile(model: Any, mode: str) -> None:
    """For families that are whole unless tiling is switched on."""
    if mode == "tiled":
        model.enable_tiling()


def moments(vae: DiffusersVAE, pixels: Tensor) -> tuple[Tensor, Tensor | None]:
    """(B, 3, T, H, W) -> mean and log-variance, both (B, c, t, h, w), by the released encode."""
    q = vae.model.encode(pixels).latent_dist
    return q.mean, q.logvar


def sample(vae: DiffusersVAE, latent: Tensor) -> Tensor:
    """(B, c, t, h, w) -> (B, 3, T, H, W) by the released decode."""
    return vae.model.decode(latent).sample


@dataclass(frozen=True)
class Family:
    """One family of diffusers: its class, its released configurations and its peculiarities."""

    cls: str
    variants: Mapping[str, VAESpec]
    configs: Mapping[
        str, Config
    ]  # the released configuration of each variant, where it is not the class default
    small: Config  # what makes a configuration tiny: overrides
    diffusers: str = "0.35"  # the first version that runs it as described here
    set_mode: Callable[[Any, str], None] = _no_change
    encode: Callable[[DiffusersVAE, Tensor], tuple[Tensor, Tensor | None]] = moments
    decode: Callable[[DiffusersVAE, Tensor], Tensor] = sample
    clear: Callable[[Any], None] = _nothing_kept  # forget what the last call left on the modules
    describe: Callable[[Any, VAESpec], VAESpec] | None = None  # completes the spec with what the weights know
    one_by_one: bool = False  # the class cannot take a batch
    float32_pixels: bool = False  # the encoder casts by itself
    hazards: Mapping[str, str] = field(default_factory=dict)  # dtype -> what goes wrong

    def load(
        self,
        spec: VAESpec,
        *,
        weights: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        mode: str = "whole",
    ) -> DiffusersVAE:
        """The released weights, strictly: every tensor of the network is in the file and nothing else is."""
        from adapters._nets.checkpoint import load_strict, read_state

        self.requires(spec)
        file = places.find(spec.source, weights)
        if file.suffix != ".safetensors":
            raise ValueError(f"{spec.name} reads .safetensors only, got {file}; pickles can run code")
        config = self._published_config(file) or self._released_config(spec, file)
        with _uninitialised():
            model = self._build(config)
        load_strict(model, read_state(file), str(file))
        return DiffusersVAE(self, spec, model, device, dtype, mode)

    def tiny(
        self,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        mode: str = "whole",
        variant: str = "",
    ) -> DiffusersVAE:
        """A narrow network of the same class with random weights, the same for everyone (seed 0)."""
        import torch

        base = self.variants[variant or next(iter(self.variants))]
        self.requires(base)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = self._build({**self.configs.get(base.variant, {}), **self.small})
        spec = replace(base, variant="tiny", source="", sha256="", parameters=count(model))
        return DiffusersVAE(self, spec, model, device, dtype, mode)

    def requires(self, spec: VAESpec) -> None:
        """ImportError, saying what to install, where diffusers is missing or too old."""
        wanted = f"{spec.name} needs diffusers >= {self.diffusers}: pip install 'diffusers>={self.diffusers}'"
        try:
            found = version("diffusers")
        except PackageNotFoundError:
            raise ImportError(wanted) from None
        if _numbers(found) < _numbers(self.diffusers):
            raise ImportError(f"{wanted} (here: {found})")

    def spec_of(self, path: str) -> VAESpec:
        """The spec of a checkpoint of one's own: the variant with the same tensors, under the name of the file."""
        first = next(iter(self.variants.values()))
        file = places.find(first.source, path)
        known = {
            name: spec for name, spec in self.variants.items() if _shapes(file) == self._expected_shapes(name)
        }
        # a checkpoint that is none of ours keeps the first variant's spec, and strict loading will say what differs
        return replace(next(iter(known.values()), first), variant=Path(path).stem)

    def count_parameters(self, variant: str) -> int:
        """Of the released configuration, without a byte of weights."""
        import torch

        with torch.device("meta"):
            return count(self._build(self.configs.get(variant, {})))

    def _released_config(self, spec: VAESpec, file: Path) -> Config:
        if spec.variant in self.variants:
            return self.configs.get(spec.variant, {})
        for name in self.variants:
            if _shapes(file) == self._expected_shapes(name):
                return self.configs.get(name, {})
        return next(iter(self.configs.values()), {})

    def _published_config(self, file: Path) -> Config | None:
        """The config.json beside the weights, where there is one; ValueError if it is another class's."""
        beside = file.with_name("config.json")
        if not beside.is_file():
            return None
        try:
            config: dict[str, Any] = json.loads(beside.read_text())
        except ValueError as reason:
            raise ValueError(f"{beside} is not JSON: {reason}") from None
        if config.get("_class_name", self.cls) != self.cls:
            raise ValueError(f"{beside} is of a {config['_class_name']}, expected {self.cls}")
        return config

    def _build(self, config: Config) -> Any:
        """The network of a configuration; keys that its class does not know (older releases wrote some) are left out."""
        import diffusers

        cls = getattr(diffusers, self.cls)
        known = inspect.signature(cls.__init__).parameters
        return cls(**{key: value for key, value in config.items() if key in known})

    def _expected_shapes(self, variant: str) -> dict[str, tuple[int, ...]]:
        import torch

        with torch.device("meta"):
            state = self._build(self.configs.get(variant, {})).state_dict()
        return {key: tuple(value.shape) for key, value in state.items()}


class DiffusersVAE:
    """A VideoVAE around a model of diffusers, in one mode."""

    def __init__(
        self,
        family: Family,
        spec: VAESpec,
        model: Any,
        device: torch.device | str,
        dtype: torch.dtype | None,
        mode: str,
    ) -> None:
        import torch

        if mode not in spec.modes:
            raise ValueError(f"{spec.name} has no mode {mode!r} (it has: {', '.join(spec.modes)})")
        self.family = family
        self.mode = mode
        self.dtype = dtype or torch.float32
        self.device = torch.device(device)
        hazard = family.hazards.get(str(self.dtype).removeprefix("torch."))
        if hazard:
            warnings.warn(f"{spec.name} in {self.dtype}: {hazard}", stacklevel=3)
        torch.nn.Module.to(
            model, self.device, self.dtype
        )  # diffusers' own `to` logs a sentence at every cast
        self.model = model.eval().requires_grad_(False)
        self.spec = family.describe(self.model, spec) if family.describe else spec
        family.set_mode(self.model, mode)

    def encode(self, video: Video) -> Posterior:
        import torch

        pixels = video.to(self.device, torch.float32 if self.family.float32_pixels else self.dtype)
        with self._clean():
            parts = [self.family.encode(self, part) for part in self._parts(pixels)]
        mean = torch.cat([mean for mean, _ in parts]).float()
        logvars = [logvar for _, logvar in parts if logvar is not None]
        return Posterior(mean, torch.cat(logvars).float() if logvars else None)

    def decode(self, latent: Latent) -> Video:
        import torch

        z = latent.to(self.device, self.dtype)
        with self._clean():
            return torch.cat([self.family.decode(self, part) for part in self._parts(z)]).float()

    def _parts(self, batch: Tensor) -> tuple[Tensor, ...]:
        return batch.split(1) if self.family.one_by_one else (batch,)

    @contextmanager
    def _clean(self) -> Iterator[None]:
        """No gradients, and no cache of another call before or after, also when the call fails."""
        import torch

        self.family.clear(self.model)
        try:
            with torch.no_grad():
                yield
        finally:
            self.family.clear(self.model)


def count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def frames_as_batch(video: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B * T, C, H, W)."""
    return video.transpose(1, 2).flatten(0, 1)


def batch_as_frames(frames: Tensor, batch: int) -> Tensor:
    """(B * T, C, H, W) -> (B, C, T, H, W)."""
    return frames.unflatten(0, (batch, -1)).transpose(1, 2)


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".")[:2])


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    """Of the tensors of a safetensors file, from its header alone."""
    from safetensors import safe_open

    with safe_open(file, "pt") as tensors:
        return {key: tuple(tensors.get_slice(key).get_shape()) for key in tensors.keys()}  # noqa: SIM118


@contextmanager
def _uninitialised() -> Iterator[None]:
    """Builds networks without drawing their first weights, which the file replaces; buffers are computed as ever."""
    from torch.overrides import TorchFunctionMode

    class SkipInit(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__module__", None) == "torch.nn.init":
                return (kwargs or {}).get("tensor", args[0] if args else None)
            return func(*args, **(kwargs or {}))

    with SkipInit():
        yield
