"""Every VAE by name: `load("wan/2.1")`, `load("wfvae:path/to/checkpoint")`, `load("cogvideox/tiny")`.

A name is `family/variant`, or `family:path` for a checkpoint of one's own.  `family/tiny` (where that one is trained,
`family/tiny-random`) is a small network with random weights: it proves the plumbing and its scores mean nothing, so it runs
only where it is named.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters._own import of_ones_own, variant_of
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
        first = next(iter(_variants(family).values()))
        if not first.source:
            raise ValueError(
                f"{family} has no weights, so none of one's own; name a variant ({', '.join(module.VARIANTS)})"
            )
        weights.find("", path)
        return of_ones_own(first, path)
    family, _, variant = name.partition("/")
    variants = _variants(family)
    if _is_untrained(name):
        return replace(_tiny(name).spec, variant=name.partition("/")[2])
    if not variant and len(variants) == 1:
        variant = next(iter(variants))
    if variant not in variants:
        close = plugins.did_you_mean(variant, list(variants))
        raise ValueError(f"{family} has no variant {variant!r}{close} (there are: {', '.join([*variants, 'tiny'])})")
    return variants[variant]


def label(name: str, override: str = "") -> str:
    """The VAE's name in records and tables: "wan/2.1", "wan/ft-last-1a2b3c" for `wan:ft/last.ckpt`.

    A user checkpoint is named after the end of its path and 6 hex digits of its content (weights and config.json), so that two
    checkpoints never share a name.  `weights=ft/last.ckpt` gives "wan/2.1 (ft-last-1a2b3c)".

    `weights.Unavailable` if the checkpoint is not on this machine.
    """
    family, path = _split_path(name)
    if path:
        return f"{family}/{variant_of(path)}-{_content_digits(name)}"
    if _is_untrained(name):
        return name
    spec = find(name)
    if not (override and spec.source):
        return spec.name
    return f"{spec.name} ({variant_of(override)}-{_content_digits(name, override)})"


def _content_digits(name: str, override: str = "") -> str:
    content = f"{weights_digest(name, override)} {config_digest(name, override)}"
    return hashlib.sha256(content.encode()).hexdigest()[:6]


def available(name: str, override: str = "") -> str:
    """ "" where `name` can run here with real weights; otherwise how to get them.  ValueError for idle weights, as `load`."""
    _refuse_idle(name, override)
    if _is_untrained(name):
        return ""
    spec = find(name)
    try:
        module = plugins.find("adapters", spec.family)
        if hasattr(module, "requires"):  # a package or a version that the family cannot do without
            module.requires(spec)
        if spec.source:  # of one's own: `find` has found it
            weights.find_all(spec.source, override)
    except (weights.Unavailable, ImportError) as reason:
        return str(reason)
    return ""


def weights_digest(name: str, override: str = "") -> str:
    """sha256 of the weights that `load` would read; "random" for an untrained one, "none" where there are no weights.

    Of weights in several files, it is the sha256 of their names and digests.

    `weights.Unavailable` if the file is not here.
    """
    if _is_untrained(name):
        return "random"
    files = _weights_files(name, override)
    if not files:
        return "none"
    from wfvae.shards import files_of

    parts = [part for file in files for part in files_of(file)]
    if parts == files and len(files) == 1:
        return weights.digest(files[0])
    lines = "".join(f"{weights.digest(part)}  {part.name}\n" for part in parts)
    return hashlib.sha256(lines.encode()).hexdigest()


def config_digest(name: str, override: str = "") -> str:
    """sha256 of the config.json beside the weights that `load` would read, from which it builds the network; "" without one."""
    if _is_untrained(name) or find(name).source.startswith("github:"):  # whose files lie in a folder with others
        return ""
    files = _weights_files(name, override)
    beside = files[0].with_name("config.json") if files else None
    return weights.digest(beside) if beside and beside.is_file() else ""


def _weights_files(name: str, override: str) -> list[Path]:
    _, path = _split_path(name)
    if path:
        return [weights.find("", path)]
    source = find(name).source
    return weights.find_all(source, override) if source else []


def _refuse_idle(name: str, override: str) -> None:
    """ValueError for weights that `name` would not read."""
    if not override or override == weights.RANDOM:
        return
    if _split_path(name)[1]:
        raise ValueError(f"{name} names its weights already; leave weights={override} out")
    if _is_untrained(name) or not find(name).source:
        raise ValueError(f"{name} reads no weights; leave weights={override} out")


def load(
    name: str,
    *,
    weights: str = "",
    device: torch.device | str = "cpu",
    dtype: torch.dtype | None = None,
    mode: str = "",
) -> VideoVAE:
    """The VAE called `name`, ready to run; `mode` is one of its spec's, and its reference mode where empty.

    ValueError for an unknown name or mode, or weights that it would not read; `weights.Unavailable` (how to get them) for
    weights that are not here, and ValueError listing the keys for a checkpoint that does not match.
    """
    import torch

    _refuse_idle(name, weights)
    dtype = dtype or torch.float32
    family, path = _split_path(name)
    module = plugins.find("adapters", family)
    if _is_untrained(name):
        reference_mode = next(iter(_variants(family).values())).reference_mode
        return _tiny(name, device=device, dtype=dtype, mode=mode or reference_mode)
    spec = find(name)
    mode = mode or spec.reference_mode
    if mode not in spec.modes:
        raise ValueError(f"{spec.name} has no mode {mode!r} (it has: {', '.join(spec.modes)})")
    vae: VideoVAE = module.load(spec, weights=path or weights, device=device, dtype=dtype, mode=mode)
    return vae


def _tiny(name: str, **settings: Any) -> VideoVAE:
    """The untrained network of a family, its spec under the name it was asked for by."""
    family, _, variant = name.partition("/")
    vae: VideoVAE = plugins.find("adapters", family).tiny(**settings)
    if vae.spec.variant == "tiny":  # and not a transform, which has nothing to train
        vae.spec = replace(vae.spec, variant=variant)  # type: ignore[misc]  # ours as long as nobody else has seen it
    return vae


def _is_untrained(name: str) -> bool:
    """`family/tiny-random`; and `family/tiny`, unless the family has a trained network of that name."""
    family, _, variant = name.partition("/")
    return variant in ("tiny", "tiny-random") and variant not in _variants(family)


def _split_path(name: str) -> tuple[str, str]:
    """`family/variant` -> family and ""; `family:path` -> family and the path of the checkpoint itself."""
    family, colon, path = name.partition(":")
    if not colon:
        return name.partition("/")[0], ""
    if path:
        resolve = getattr(plugins.find("adapters", family), "checkpoint_of", str)  # of a training run, which checkpoint
        path = resolve(path)
    return family, path
