"""The body of the families that diffusers ships: loading, casts, modes, the posterior, and a clean model after each call.

A family describes itself in one `Family`: the class, the released configurations (data, so that shapes can be compared without a
file), how each mode is set, and where its encode and decode differ from the usual. diffusers is imported inside functions only.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from adapters._layouts import Layout, State, convert
from adapters._local import check_legal, read_json, spec_of_checkpoint
from vaebench import weights as weight_files
from vaebench.vae import Posterior, VAESpec

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from vaebench.video import Latent, Video

Config: TypeAlias = Mapping[str, Any]
EVERYTHING = 1 << 30  # frames per batch, more than any video has: one pass over all of them


def _no_change(model: Any, mode: str) -> None:
    """A family that always runs the whole video."""


def _stateless(model: Any) -> None:
    """A family whose modules hold no state between calls."""


def tile(model: Any, mode: str) -> None:
    """For families that run the whole video unless tiling is on."""
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
    """One family of diffusers: its class, its released configurations, and how it differs from others."""

    cls: str
    variants: Mapping[str, VAESpec]
    configs: Mapping[str, Config]  # the released configuration of each variant, where it is not the class default
    small: Config  # overrides that make a configuration tiny
    small_for: Mapping[str, Config] = field(default_factory=dict)  # further overrides of single variants
    diffusers: str = "0.35"  # the first version that runs as described here
    set_mode: Callable[[Any, str], None] = _no_change
    encode: Callable[[DiffusersVAE, Tensor], tuple[Tensor, Tensor | None]] = moments
    decode: Callable[[DiffusersVAE, Tensor], Tensor] = sample
    clear: Callable[[Any], None] = _stateless  # clears what the last call left on the modules
    describe: Callable[[Any, VAESpec], VAESpec] | None = None  # completes the spec from the weights
    layouts: tuple[Layout, ...] = ()  # other key layouts in which its weights are published
    least_side: int = 1  # minimum height and width, where a network pads by reflection
    one_by_one: bool = False  # the class cannot take a batch
    float32_pixels: bool = False  # the encoder casts by itself
    needs_config: str = ""  # what only the config.json of the release holds, and no default could replace
    dtype_warnings: Mapping[str, str] = field(default_factory=dict)  # dtype -> what goes wrong
    not_on_cpu: tuple[str, ...] = ()  # dtypes that torch cannot run it in on a CPU

    def load(
        self,
        spec: VAESpec,
        *,
        weights: str = "",
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        mode: str = "whole",
    ) -> DiffusersVAE:
        """The released weights or a user checkpoint, in the layout of diffusers or of the authors, strictly.

        A config.json of the same class beside the weights is read for settings without tensors; one of another class, such as
        that of the authors, is not.

        Raises:
            ValueError: unknown mode, or a file of another network (the message names the family that it looks like)
            vaebench.weights.Unavailable: the weights are not on this machine
        """
        from adapters._layouts.reading import read_vae
        from adapters._layouts.recognise import fill, looks_like

        self.requires(spec)
        if weights == weight_files.RANDOM:
            return DiffusersVAE(
                self, spec, spec.variant, self._build(self.configs.get(spec.variant, {})), device, dtype, mode
            )
        file = weight_files.find(spec.source, weights, spec.name)
        read = read_vae(file)
        state, layout = self._converted(read, file)
        variant = spec.variant if spec.source else self._nearest(_shapes(state))
        published = self._published_config(file)
        if self.needs_config and not published:
            raise ValueError(f"{file}: put the release's config.json beside it: it holds {self.needs_config}")
        with _uninitialised():
            model = self._build(published or self.configs.get(variant, {}))
        if published and _shapes(model.state_dict()) != self.expected_shapes(variant):
            advice = (
                f"give weights that fit {spec.name}"
                if spec.source
                else f"user checkpoints run in a released configuration only, of which {self.name}/{variant} is the nearest"
            )
            raise ValueError(
                f"{file.with_name('config.json')} describes another network than {self.name}/{variant}"
                + (looks_like(read, f"{self.name}/{variant}") or f"; {advice}")
            )
        fill(model, state, file, name=f"{self.name}/{variant}", read=read, layout=layout)
        factor = (published or {}).get("scaling_factor")
        if factor and not isinstance(spec.scale, tuple):  # what was published with these very weights
            spec = replace(spec, scale=float(factor))
        return DiffusersVAE(self, spec, variant, model, device, dtype, mode)

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
            config = {
                **self.configs.get(base.variant, {}),
                **self.small,
                **self.small_for.get(base.variant, {}),
            }
            model = self._build(config)
        spec = replace(base, variant="tiny", source="", sha256="", parameters=count(model))
        return DiffusersVAE(self, spec, base.variant, model, device, dtype, mode)

    def requires(self, spec: VAESpec) -> None:
        """Raises vaebench.weights.Unavailable, with what to install, if diffusers is missing or too old."""
        wanted = f"{spec.name} needs diffusers >= {self.diffusers}: pip install 'diffusers>={self.diffusers}'"
        try:
            installed = version("diffusers")
        except PackageNotFoundError:
            raise weight_files.Unavailable(wanted) from None
        if _numbers(installed) < _numbers(self.diffusers):
            raise weight_files.Unavailable(f"{wanted} (installed: {installed})")

    def spec_of(self, path: str) -> VAESpec:
        """The spec of a user checkpoint: that of the variant with most tensors in common, under the name of the file."""
        from adapters._layouts.reading import read_vae

        file = weight_files.find("", path)
        state, _ = self._converted(read_vae(file), file)
        return spec_of_checkpoint(self.variants[self._nearest(_shapes(state))], path)

    @property
    def name(self) -> str:
        return next(iter(self.variants.values())).family

    def _converted(self, state: State, file: Path) -> tuple[dict[str, Tensor], str]:
        """The tensors of a file under the keys of the class, and the name of their layout; ValueError naming the file."""
        try:
            return convert(state, self.layouts)
        except ValueError as reason:
            raise ValueError(f"{file} does not fit {self.name}: {reason}") from None

    def shapes_in(self, state: State) -> dict[str, tuple[int, ...]]:
        """The shapes of any file's tensors, under the keys of the class where it has a layout of this family.

        Raises:
            ValueError: keys of this family's layouts, but of half a network or twice
        """
        return _shapes(convert(state, self.layouts)[0])

    def _nearest(self, shapes: dict[str, tuple[int, ...]]) -> str:
        """The variant that shares most tensors with a file; strict loading names the differences."""

        def shared(variant: str) -> int:
            return len(self.expected_shapes(variant).items() & shapes.items())

        return max(self.variants, key=shared)

    def _published_config(self, file: Path) -> Config | None:
        """The config.json of this class beside the weights; None without one.

        Releases by the authors have the config of a transformer there, or of their own class: it does not describe this network.
        """
        beside = file.with_name("config.json")
        if not beside.is_file():
            return None
        config = read_json(beside)
        return config if config.get("_class_name", self.cls) == self.cls else None

    def reads_config(self, file: Path) -> bool:
        """Whether the config.json beside this file of weights is used."""
        try:
            return self._published_config(file) is not None
        except ValueError:  # damaged: `load` reports it
            return True

    def _build(self, config: Config) -> Any:
        """The network of a configuration; keys that its class does not know, from older releases, are ignored."""
        cls = self._class()
        known = inspect.signature(cls.__init__).parameters
        return cls(**{key: value for key, value in config.items() if key in known})

    def _class(self) -> Any:
        import diffusers

        return getattr(diffusers, self.cls)

    def _on_meta(self, variant: str) -> Any:
        import torch

        self._class()  # import it first: constants of its module must not become meta tensors
        with torch.device("meta"):
            return self._build(self.configs.get(variant, {}))

    def expected_shapes(self, variant: str) -> dict[str, tuple[int, ...]]:
        return _shapes(self._on_meta(variant).state_dict())


class DiffusersVAE:
    """A VideoVAE around a model of diffusers, in one mode."""

    def __init__(
        self,
        family: Family,
        spec: VAESpec,
        variant: str,
        model: Any,
        device: torch.device | str,
        dtype: torch.dtype | None,
        mode: str,
    ) -> None:
        import torch

        if mode not in spec.modes:
            raise ValueError(f"{spec.name} has no mode {mode!r} (it has: {', '.join(spec.modes)})")
        self.family = family
        self.variant = variant  # the released variant whose configuration it has
        self.mode = mode
        self.dtype = dtype or torch.float32
        self.device = torch.device(device)
        name = str(self.dtype).removeprefix("torch.")
        if self.device.type == "cpu" and name in family.not_on_cpu:
            raise ValueError(f"{spec.name} cannot run in {name} on a CPU: use dtype=float32 or a GPU")
        if name in family.dtype_warnings:
            warnings.warn(f"{spec.name} in {name}: {family.dtype_warnings[name]}", stacklevel=3)
        _cast(model, self.device, self.dtype)
        self.model = model.eval().requires_grad_(False)
        self.spec = family.describe(self.model, spec) if family.describe else spec
        family.set_mode(self.model, mode)

    def encode(self, video: Video) -> Posterior:
        import torch

        check_legal(self.spec, video)  # most of these networks drop surplus frames and pixels silently
        if min(video.shape[-2:]) < self.family.least_side:
            least = self.family.least_side
            raise ValueError(
                f"{self.spec.name} takes frames of at least {least}x{least}, got {tuple(video.shape[-2:])}"
            )
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
        """No gradients, and no cache left by another call or after this one, also if it fails."""
        import torch

        self.family.clear(self.model)
        try:
            with torch.no_grad():
                yield
        finally:
            self.family.clear(self.model)


def _cast(model: Any, device: torch.device, dtype: torch.dtype) -> None:
    """In half precision, the modules that the class lists as sensitive to casts keep their float32 values."""
    import torch

    sensitive = set(getattr(model, "_keep_in_fp32_modules", None) or ()) if dtype.itemsize < 4 else set()

    def kept(name: str) -> bool:
        return not sensitive.isdisjoint(name.split("."))

    exact = {name: value for name, value in model.state_dict().items() if kept(name)}
    torch.nn.Module.to(model, device, dtype)  # the `to` of diffusers logs at every cast
    for name, module in model.named_modules():
        if kept(name):
            torch.nn.Module.to(module, torch.float32)
    model.load_state_dict(exact, strict=False)


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


def _shapes(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@contextmanager
def _uninitialised() -> Iterator[None]:
    """Builds networks without drawing random weights, which the file replaces; buffers are computed as usual."""
    from torch.overrides import TorchFunctionMode

    class SkipInit(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if getattr(func, "__module__", None) == "torch.nn.init":
                return (kwargs or {}).get("tensor", args[0] if args else None)
            return func(*args, **(kwargs or {}))

    with SkipInit():
        yield
