"""Every VAE by name: `load("wan/2.1")`, `load("wfvae:path/to/checkpoint")`, `load("cogvideox/tiny")`, `load("./halves.py")`.

A name is `family/variant`, `family:path` for a user checkpoint, or `file.py` (`file.py/variant`) for an adapter in a file.
`wan/2.1+taehv/taew2_1` encodes with one VAE and decodes with another (`_cross.py`). `codec/x265-27` is a video codec
(`_codec.py`), which runs only by name. `family/tiny` (`family/tiny-random` where `tiny` is a trained VAE) is a small network with
random weights for tests: its scores are meaningless, so no list of all VAEs contains it.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters._local import spec_of_checkpoint, variant_of
from vaebench import plugins
from vaebench import weights as weight_files
from vaebench.vae import VAESpec, VideoVAE
from vaebench.weights.github import KIND as GITHUB

if TYPE_CHECKING:
    from types import ModuleType

    import torch

UNTRAINED = ("tiny", "tiny-random")  # variants that every family has, unless it has a trained network of that name
FILE = re.compile(r"(?P<file>[^:]*\.py)(?:/(?P<variant>[^/]+))?")  # an adapter in a file


class UnreadableCheckpoint(ValueError):
    """The weights of a VAE exist but cannot be read; the message names the file."""


def names() -> list[str]:
    """All `family/variant` names without the untrained `family/tiny`; no weight is read and torch is not imported."""
    return [f"{family}/{variant}" for family, module in families().items() for variant in module.VARIANTS]


def families() -> dict[str, ModuleType]:
    """Family -> its adapter.  A broken adapter of another package is skipped, with one line on stderr."""
    modules = {family: _module_unless_broken(family) for family in plugins.names("adapters")}
    return {family: module for family, module in modules.items() if module}


@dataclass(frozen=True)
class ResolvedVAE:
    """A VAE found by its name: the spec, and its weights, digests and label, which are looked up on first use."""

    name: str  # as it was asked for
    spec: VAESpec
    module: ModuleType  # the adapter
    checkpoint: str = ""  # path of the user checkpoint of `family:path`
    override: str = ""  # `weights=PATH` of the run
    untrained: bool = False

    @property
    def released(self) -> list[VAESpec]:
        """The specs whose released weights it reads."""
        return [] if self.untrained or self.checkpoint or self.override or not self.spec.source else [self.spec]

    @cached_property
    def files(self) -> list[Path]:
        """The weights files (of weights in shards, their index or first shard); empty where there are no weights.

        Raises:
            vaebench.weights.Unavailable: the file is not on this machine
        """
        if self.untrained or not (self.checkpoint or self.spec.source):
            return []
        if self.checkpoint:
            return [weight_files.find("", self.checkpoint)]
        installed = self.spec.family in plugins.names("adapters")  # `vaebench weights fetch` finds it by name
        return weight_files.find_all(self.spec.source, self.override, self.spec.name if installed else "")

    @cached_property
    def weights(self) -> str:
        """sha256 of the weights; "random" for an untrained VAE, "none" for a VAE without weights.

        Of weights in several files, the sha256 of their names and digests.
        """
        if self.untrained:
            return "random"
        if not self.files:
            return "none"
        from adapters._layouts.reading import files_of

        parts = list(dict.fromkeys(part for file in self.files for part in files_of(file)))
        if len(self.files) == 1 and parts == self.files:
            return weight_files.digest(parts[0])
        lines = "".join(f"{weight_files.digest(part)}  {part.name}\n" for part in parts)
        return hashlib.sha256(lines.encode()).hexdigest()

    @cached_property
    def config_sha256(self) -> str:
        """sha256 of the config.json beside the weights, from which the network is built; "" without one."""
        if not self.files or self.spec.source.startswith(GITHUB):  # several families may share that folder
            return ""
        beside = self.files[0].with_name("config.json")
        if not beside.is_file():
            return ""
        family = getattr(self.module, "FAMILY", None)
        if family and not family.reads_config(self.files[0]):  # of another class, such as the transformer
            return ""
        return weight_files.digest(beside)

    @cached_property
    def label(self) -> str:
        """The name in records and tables: "wan/2.1", "wan/ft-last-1a2b3c" for `wan:ft/last.ckpt`.

        A user checkpoint is named after the end of its path and 6 hex digits of its content (weights and config.json), so that
        two checkpoints never share a name.  `weights=ft/last.ckpt` gives "wan/2.1 (ft-last-1a2b3c)".
        """
        if self.untrained:
            return self.name
        if self.checkpoint:
            return f"{self.spec.family}/{variant_of(self.checkpoint)}-{self._content_digits()}"
        if self.override and self.spec.source:
            return f"{self.spec.name} ({variant_of(self.override)}-{self._content_digits()})"
        return self.spec.name

    def _content_digits(self) -> str:
        return hashlib.sha256(f"{self.weights} {self.config_sha256}".encode()).hexdigest()[:6]

    @cached_property
    def unavailable(self) -> str:
        """How to get what is missing to run this VAE with its weights; "" if nothing is missing."""
        if self.untrained:
            return ""
        try:
            if hasattr(self.module, "requires"):  # a package, or a version of one
                self.module.requires(self.spec)
            _ = self.files
        except (weight_files.Unavailable, ImportError) as reason:
            return str(reason)
        return ""

    @property
    def code(self) -> list[ModuleType]:
        """The adapter, for the fingerprint of cached results."""
        return [self.module]

    def load(
        self,
        mode: str = "",
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype | None = None,
        random_weights: bool = False,
    ) -> VideoVAE:
        """The VAE, ready to run in one of its modes; the default is its reference mode.

        `random_weights` builds the released configuration with random weights: what a VAE costs does not depend on them.

        Raises:
            ValueError: unknown mode, or a checkpoint that does not match (with the keys)
            vaebench.weights.Unavailable: the weights are not on this machine
        """
        import torch

        mode = mode or self.spec.reference_mode
        if mode not in self.spec.modes:
            raise ValueError(f"{self.spec.name} has no mode {mode!r} (it has: {', '.join(self.spec.modes)})")
        settings: dict[str, Any] = {"device": device, "dtype": dtype or torch.float32, "mode": mode}
        if self.untrained:
            vae: VideoVAE = self.module.tiny(**settings)
            if vae.spec.variant == "tiny":  # transforms keep their variant: they have no weights
                vae.spec = replace(vae.spec, variant=self.spec.variant)  # type: ignore[misc]
            return vae
        random = random_weights and bool(self.spec.source)
        weights = weight_files.RANDOM if random else self.checkpoint or self.override
        loaded: VideoVAE = self.module.load(self.spec, weights=weights, **settings)
        return loaded


def resolve(name: str, weights: str = "") -> ResolvedVAE:
    """The VAE called `name`, or the cross `encoder+decoder` of two.

    `weights` is a file or folder to read instead of the released weights.

    Raises:
        ValueError: unknown family or variant (with the nearest name), or `weights` for a VAE that does not read them
        UnreadableCheckpoint: the user checkpoint is damaged, or of another family
        vaebench.weights.Unavailable: the user checkpoint of `family:path` does not exist
    """
    if name.startswith("codec/"):
        from adapters import _codec

        if weights:
            raise ValueError(f"{name} reads no weights: remove weights={weights}")
        return ResolvedVAE(name, _codec.spec_of(name), _codec)
    if halves := _halves(name):
        from adapters import _cross

        if weights:
            raise ValueError(f"{name} is two VAEs: remove weights={weights}, or name a checkpoint as family:path")
        return _cross.resolve(*map(resolve, halves))
    module, variant, checkpoint = _parts(name)
    if weights and checkpoint:
        raise ValueError(f"{name} already names its weights: remove weights={weights}")
    if weights and getattr(module, "checkpoint_of", str)(weights) != weights:
        run = f"{name.removesuffix(f'/{variant}')}:{weights}"
        raise ValueError(f"{weights} is the folder of a training run: name it as {run}, and remove weights={weights}")
    spec, untrained = _spec(name, module, variant, checkpoint)
    if weights and (untrained or not spec.source):
        raise ValueError(f"{name} reads no weights: remove weights={weights}")
    return ResolvedVAE(name, spec, module, checkpoint, weights, untrained)


def find(name: str) -> VAESpec:
    """The spec of a VAE; errors as `resolve`."""
    return resolve(name).spec


def load(
    name: str,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "",
) -> VideoVAE:
    """The VAE called `name`, ready to run; errors as `resolve` and `ResolvedVAE.load`."""
    return resolve(name, weights).load(mode, device=device, dtype=dtype)


def _halves(name: str) -> tuple[str, str] | None:
    """The two VAEs of `encoder+decoder`; None for any other name, also for a path that contains a +."""
    for plus in (match.start() for match in re.finditer(r"\+", name)):
        encoder, decoder = name[:plus], name[plus + 1 :]
        if encoder and re.split("[/:]", decoder)[0] in plugins.names("adapters"):
            return encoder, decoder
    return None


def _parts(name: str) -> tuple[ModuleType, str, str]:
    """The adapter's module, the variant, and the path of a user checkpoint; the last two are "" where not given."""
    if file := FILE.fullmatch(name):
        module = _module(file["file"])
        families = {spec.family for spec in module.VARIANTS.values()}
        if taken := families & set(plugins.names("adapters")):
            raise ValueError(f"{file['file']}: the family {taken.pop()!r} already exists: rename yours")
        return module, file["variant"] or "", ""
    family, colon, path = name.partition(":")
    if not colon:
        family, _, variant = name.partition("/")
        if family not in plugins.names("adapters"):
            plugins.refuse_path(name)
        return _module(family), variant, ""
    module = _module(family)
    if not path:
        return module, "", ""
    # the folder of a training run stands for one of its checkpoints
    return module, "", str(getattr(module, "checkpoint_of", str)(path))


def _module(name: str) -> ModuleType:
    """The adapter of a family or in a file; ValueError if it does not define what every adapter does."""
    module = plugins.find("adapters", name)
    name = plugins.described("adapters", name)
    variants = getattr(module, "VARIANTS", None)
    if not (
        isinstance(variants, Mapping) and variants and all(isinstance(spec, VAESpec) for spec in variants.values())
    ):
        close = "" if variants is not None else plugins.did_you_mean("VARIANTS", list(vars(module)))
        raise ValueError(f"{name} should define VARIANTS, a dict of variant name -> vaebench.VAESpec{close}")
    _require(module, "load", "spec, *, weights, device, dtype, mode", name)
    return module


def _module_unless_broken(family: str) -> ModuleType | None:
    """The adapter of a family; None if it belongs to another package and is broken, so that the other families can be used."""
    try:
        return _module(family)
    except ValueError as reason:
        if not plugins.package_of("adapters", family):
            raise
        _print_once(f"vaebench: skipped: {reason}")
        return None


@cache
def _print_once(line: str) -> None:
    print(line, file=sys.stderr)


def _require(module: ModuleType, function: str, arguments: str, name: str) -> None:
    """Raises ValueError if the adapter called `name` lacks a function."""
    if not callable(getattr(module, function, None)):
        close = plugins.did_you_mean(function, [other for other, value in vars(module).items() if callable(value)])
        raise ValueError(f"{name} has no function {function}({arguments}){close}")


def _spec(name: str, module: ModuleType, variant: str, checkpoint: str) -> tuple[VAESpec, bool]:
    """The spec, and whether it describes the untrained network of the family."""
    variants: dict[str, VAESpec] = module.VARIANTS
    if checkpoint:
        if hasattr(module, "spec_of"):  # the family can tell its configuration from a checkpoint
            try:
                return module.spec_of(checkpoint), False
            except ValueError as error:
                raise UnreadableCheckpoint(str(error)) from error
        first = next(iter(variants.values()))
        if not first.source:
            raise ValueError(
                f"{first.family} has no weights, so it takes no checkpoint: name a variant ({', '.join(variants)})"
            )
        weight_files.find("", checkpoint)
        return spec_of_checkpoint(first, checkpoint), False
    if variant in UNTRAINED and variant not in variants:
        _require(module, "tiny", "*, device, dtype, mode", name.removesuffix(f"/{variant}"))
        spec: VAESpec = module.tiny().spec
        reference_mode = next(iter(variants.values())).reference_mode
        return replace(spec, variant=variant, reference_mode=reference_mode), True
    if not variant and len(variants) == 1:
        variant = next(iter(variants))
    if variant not in variants:
        family = next(iter(variants.values())).family
        close = plugins.did_you_mean(variant, list(variants))
        there = [*variants, "tiny-random" if "tiny" in variants else "tiny"]
        if not variant:
            prefix = name.rstrip("/:")
            raise ValueError(f"{prefix}: name a variant: {', '.join(f'{prefix}/{one}' for one in there)}")
        raise ValueError(f"{family} has no variant {variant!r}{close} (there are: {', '.join(there)})")
    return variants[variant], False
