"""Reads the tensors of a VAE out of any released file: its own file, two halves, shards, or a checkpoint of a whole pipeline.

Only the tensors of the VAE are read: a single file of LTX-Video or Stable Video Diffusion holds a transformer of many GB beside
it.  Pickles are read with `weights_only`; TorchScript archives are code and are refused.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import weights
from wfvae import shards

if TYPE_CHECKING:
    from torch import Tensor

NESTED = ("state_dict", "gen_model", "model", "module")  # under which a pickle may hold its tensors
WRAPPERS = re.compile(r"(?:module|_orig_mod)\.")  # DistributedDataParallel and torch.compile
PREFIXES = ("first_stage_model.", "vae.")  # of the VAE in a checkpoint of a whole pipeline
OTHERS = re.compile(  # not of the VAE: losses, copies and the rest of a pipeline
    r"(?:loss|model_ema|model\.diffusion_model|conditioner|cond_stage_model|audio_vae|vocoder|text_embedding_projection)\."
)


def read_vae(file: Path) -> dict[str, Tensor]:
    """The tensors of the VAE in the weights to which `file` belongs, without the prefix of a pipeline.

    Raises:
        ValueError: the file is damaged, holds anything but tensors, or has no tensor of a VAE
    """
    state: dict[str, Tensor] = {}
    for part in files_of(file):
        read = _read_part(part)
        half = weights.half_of(part)
        if half and not any(re.match(r"(?:encoder|decoder|(?:post_)?quant_conv)\.", key) for key in read):
            read = {f"{half}.{key}": value for key, value in read.items()}
        if both := state.keys() & read.keys():
            raise ValueError(f"{part} holds {min(both)}, which another file of the same weights holds too")
        state |= read
    return state


def files_of(file: Path) -> list[Path]:
    """All files of the weights to which `file` belongs: encoder and decoder, the shards, or itself."""
    halves = weights.halves_of(file)
    return halves if len(halves) > 1 else shards.files_of(file)


def plain_names(keys: Iterable[str]) -> dict[str, str]:
    """Key in the file -> key of the VAE, for the tensors of the VAE."""
    bare = {key: WRAPPERS.sub("", key) if WRAPPERS.match(key) else key for key in keys}
    for prefix in PREFIXES:
        if any(name.startswith(prefix) for name in bare.values()):
            return {key: name.removeprefix(prefix) for key, name in bare.items() if name.startswith(prefix)}
    return {key: name for key, name in bare.items() if not OTHERS.match(name)}


def _read_part(file: Path) -> dict[str, Tensor]:
    state = _read_safetensors(file) if file.suffix == ".safetensors" else _read_pickle(file)
    if not state:
        raise ValueError(f"{file} holds no tensors of a VAE")
    return state


def _read_safetensors(file: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, "pt") as stored:
            return {name: stored.get_tensor(key) for key, name in plain_names(stored.keys()).items()}
    except SafetensorError as reason:
        raise ValueError(f"{file} cannot be read as safetensors ({reason}): download it again") from None


def _read_pickle(file: Path) -> dict[str, Tensor]:
    import torch

    from vaebench.pickled import load_tensors

    _refuse_torchscript(file)
    content: Any = load_tensors(file, mmap=zipfile.is_zipfile(file))  # mapped: the rest of a pipeline is never read
    while isinstance(content, Mapping) and (inside := [content[key] for key in NESTED if key in content]):
        content = inside[0]
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} holds a {type(content).__name__}, expected a state dict")
    state = {}
    for key, name in plain_names(key for key in content if isinstance(key, str)).items():
        value = content[key]
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{file} holds a {type(value).__name__} under {key!r}, expected a state dict of tensors only"
            )
        state[name] = value.clone()
    return state


def _refuse_torchscript(file: Path) -> None:
    if not zipfile.is_zipfile(file):
        return
    with zipfile.ZipFile(file) as archive:
        names = archive.namelist()
    if any(name.split("/", 1)[-1] == "constants.pkl" for name in names):
        raise ValueError(
            f"{file} is a TorchScript archive, which holds code; vaebench reads tensors only. If you trust the file, export them: "
            f'python -c \'import torch; torch.save(torch.jit.load("{file.name}", map_location="cpu").state_dict(), '
            f'"{file.stem}.pt")\' and give {file.stem}.pt'
        )
