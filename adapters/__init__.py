"""Every VAE by name: `load("wan/2.1")`, `load("wfvae:path/to/checkpoint")`, `load("cogvideox/tiny")`.

A name is `family/variant`, or `family:path` for a checkpoint of one's own.  `family/tiny` (where that one is trained,
`family/tiny-random`) is a small network with random weights: it proves the plumbing and its scores mean nothing, so it runs
only where it is named.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from vaebench import plugins, weights
from vaebench.vae import VAESpec, VideoVAE

if TYPE_CHECKING:
    import torch


def names() -> list[str]:
    """All `family/variant` names, the untrained `family/tiny` apart; no weight is read and torch is not imported."""
    return [f"{family}/{variant}" for family in plugins.names("adapters") for variant in _variants(family)]


def _variants(family: str) -> dict[str, VAESpec]:
    variants: dict[str, VAESpec] = plugins.find("adapters", family).VARIANTS
    return variants


def find(name: str) -> VAESpec:
    """The spec of `family/variant` or `family:path`; ValueError with the nearest name if there is none."""
    family, path = _split_path(name)
    if path:
        module = plugins.find("adapters", family)
        if hasattr(module, "spec_of"):  # the family can tell its configuration from a checkpoint
            spec: VAESpec = module.spec_of(path)
            return spec
        return replace(next(iter(_variants(family).values())), variant=Path(path).stem)
    family, _, variant = name.partition("/")
    variants = _variants(family)
    if _is_untrained(name):
        untrained: VAESpec = plugins.find("adapters", family).tiny().spec
        return untrained
    if not variant and len(variants) == 1:
        variant = next(iter(variants))
    if variant not in variants:
        close = plugins.did_you_mean(variant, list(variants))
        raise ValueError(f"{family} has no variant {variant!r}{close} (there are: {', '.join([*variants, 'tiny'])})")
    return variants[variant]


def available(name: str, override: str = "") -> str:
    """ "" where `name` can run here with real weights; otherwise how to get them."""
    if _is_untrained(name):
        return ""
    family, path = _split_path(name)
    spec = find(name)
    try:
        module = plugins.find("adapters", family)
        if hasattr(module, "requires"):  # a package or a version that the family cannot do without
            module.requires(spec)
        if spec.source:
            weights.find(spec.source, path or override)
    except (weights.Unavailable, ImportError) as reason:
        return str(reason)
    return ""


def weights_digest(name: str, override: str = "") -> str:
    """sha256 of the weights file that `load` would read; "random" for an untrained one, "none" where there are no weights.

    `weights.Unavailable` if the file is not here.
    """
    _, path = _split_path(name)
    if _is_untrained(name):
        return "random"
    spec = find(name)
    if path and Path(path).is_file():
        return weights.digest(Path(path))
    return weights.digest(weights.find(spec.source, path or override)) if spec.source else "none"


def label(name: str, override: str = "") -> str:
    """How a table calls the VAE: its name, never a path, and marked where its weights are not the released ones."""
    if ":" in name:
        return find(name).name
    return f"{name} (own weights)" if override else name


def load(
    name: str,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "whole",
) -> VideoVAE:
    """The VAE called `name`, ready to run.

    ValueError for an unknown name or mode, `weights.Unavailable` (how to get them) for weights that are not here, and
    ValueError listing the keys for a checkpoint that does not match.
    """
    import torch

    dtype = dtype or torch.float32
    family, path = _split_path(name)
    module = plugins.find("adapters", family)
    if _is_untrained(name):
        vae: VideoVAE = module.tiny(device=device, dtype=dtype, mode=mode)
        return vae
    spec = find(name)
    if mode not in spec.modes:
        raise ValueError(f"{spec.name} has no mode {mode!r} (it has: {', '.join(spec.modes)})")
    vae = module.load(spec, weights=path or weights, device=device, dtype=dtype, mode=mode)
    return vae


def _is_untrained(name: str) -> bool:
    """`family/tiny-random`; and `family/tiny`, unless the family has a trained network of that name."""
    family, _, variant = name.partition("/")
    return variant in ("tiny", "tiny-random") and variant not in _variants(family)


def _split_path(name: str) -> tuple[str, str]:
    family, colon, path = name.partition(":")
    return (family, path) if colon else (name.partition("/")[0], "")
