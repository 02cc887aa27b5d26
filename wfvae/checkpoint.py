"""Reads and writes the weights of a WF-VAE in the official layout.

    FOLDER/config.json, FOLDER/diffusion_pytorch_model.safetensors       published by the authors, and written by `save`
    FOLDER/config.json, FOLDER/checkpoint-N.ckpt                         written by their trainer; the EMA is preferred

Either may be split into shards (`wfvae.shards`), and its keys may carry the prefixes of data-parallel or compiled modules.
Loading is strict: missing or extra keys and wrong shapes are an error that lists them.  Only the Haar kernels, which are constants,
may be missing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wfvae.config import WFVAEConfig
from wfvae.model import WFVAE
from wfvae.shards import INDEX, files_of, first_files
from wfvae.wavelet import constants

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model.safetensors"
_LISTED = 8  # keys of each kind that an error names
_WRAPPERS = ("module", "_orig_mod")  # what DistributedDataParallel and torch.compile put into keys


def load(source: str | Path, config: WFVAEConfig | None = None, *, ema: bool = True) -> WFVAE:
    """The model of a folder, of a weights file, or of a Hugging Face repository "org/name[@revision]"; float32, on the CPU.

    Args:
        source: folder, file or repository
        config: the architecture, if there is no config.json
        ema: of a `.ckpt`, load the EMA weights instead of the raw ones

    Raises:
        FileNotFoundError: the weights or config.json are missing
        ValueError: a file is damaged or does not hold the weights of this architecture
    """
    file = _weights_file(_resolve(source))
    if config is None:
        config = read_config(file.with_name(CONFIG))
    state = read_state(file, ema=ema)
    with torch.device("meta"):
        model = WFVAE(config)
    state = constants(model) | dict(state)
    check_keys(model, state, file)
    # not `to_empty`, which makes torch import SymPy (500 modules) to lay out tensors like those on the meta device
    weights = {
        name: torch.empty_strided(value.shape, value.stride(), dtype=value.dtype).copy_(state[name])
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(weights, assign=True)
    return model.eval()


def save(model: WFVAE, folder: str | Path) -> None:
    """Writes config.json and diffusion_pytorch_model.safetensors, which load in the official code."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    state = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / CONFIG).write_text(json.dumps(model.config.to_official(), indent=2) + "\n")


def read_config(file: Path) -> WFVAEConfig:
    """Reads an official config.json.

    Raises:
        FileNotFoundError: there is no such file
        ValueError: it is not JSON, or not the configuration of a WF-VAE
    """
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is not here: it says what the weights beside it belong to; copy the release's {CONFIG} there"
        )
    try:
        official = json.loads(file.read_text())
    except (ValueError, RecursionError) as reason:  # the second of lists that are nested too deeply
        raise ValueError(f"{file} is not JSON: {reason}") from None
    if not isinstance(official, dict):
        raise ValueError(f"{file} should hold a JSON object, got a {type(official).__name__}")
    return WFVAEConfig.from_official(official)


def read_state(file: Path, *, ema: bool = True) -> Mapping[str, Tensor]:
    """The state dict in a `.safetensors`, an official `.ckpt`, or all shards of one; no code in a `.ckpt` is executed."""
    state: dict[str, Tensor] = {}
    for part in files_of(file):
        state |= _read_file(part, ema)
    return state


def _read_file(file: Path, ema: bool) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        try:
            return _plain(load_file(file), file)
        except SafetensorError as reason:
            raise ValueError(f"{file} is not a safetensors file: {reason}") from None
    content = read_pickle(file)
    if not isinstance(content, dict):
        raise ValueError(f"{file} should hold a dict of weights, got a {type(content).__name__}")
    state = content.get("state_dict", {} if "ema_state_dict" in content else content)
    state = _plain(state.get("gen_model", state), file)
    if ema and content.get("ema_state_dict"):
        # the average covers what is trained; the Haar kernels come from the raw weights
        state |= _plain(content["ema_state_dict"], file)
    return state


def read_pickle(file: Path) -> Any:
    """Reads a file of `torch.save` without executing code in it.

    Raises:
        ValueError: the file is damaged, or holds other objects than tensors and containers
    """
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except OSError as reason:
        if reason.filename:  # an error of the system, which names the file
            raise
    except Exception as reason:  # many types, and the message of PyTorch suggests an unsafe load
        if isinstance(reason, MemoryError) or "allocate" in str(reason):
            raise
    raise ValueError(
        f"{file} cannot be read as a checkpoint: it is damaged, or holds Python objects other than tensors, which are never run"
    )


def check_keys(model: WFVAE, state: Mapping[str, Any], file: Path) -> None:
    """Checks the keys and shapes of a state dict.

    Raises:
        ValueError: lists the missing and extra keys and the wrong shapes
    """
    expected = model.state_dict()
    faults = {
        "missing": [key for key in expected if key not in state],
        "extra": [key for key in state if key not in expected],
        "misshapen": [
            f"{key} {tuple(state[key].shape)}, expected {tuple(value.shape)}"
            for key, value in expected.items()
            if key in state and state[key].shape != value.shape
        ],
    }
    if any(faults.values()):
        told = [
            f"{len(keys)} {kind}: {', '.join(keys[:_LISTED])}{', ...' if len(keys) > _LISTED else ''}"
            for kind, keys in faults.items()
            if keys
        ]
        raise ValueError(f"{file} does not hold the weights of this configuration; {'; '.join(told)}")


def _plain(state: Mapping[str, Tensor], file: Path) -> dict[str, Tensor]:
    """Removes the names of wrapping modules from the keys, at any depth: no module of a WF-VAE has such a name."""
    plain: dict[str, Tensor] = {}
    for key, value in state.items():
        name = ".".join(part for part in str(key).split(".") if part not in _WRAPPERS)
        if name in plain:
            raise ValueError(f"{file} holds {name} twice, under keys that differ only in {' and '.join(_WRAPPERS)}")
        plain[name] = value
    return plain


def _resolve(source: str | Path) -> Path:
    """A path that exists; a repository name is looked up in the Hugging Face cache, and fetched if it is not there."""
    path = Path(source).expanduser()
    if path.exists():
        return path
    name, _, revision = str(source).partition("@")
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or path.suffix in (".ckpt", ".safetensors"):
        raise FileNotFoundError(
            f"{path} is not here; give a folder, a .safetensors or .ckpt file, or org/name on the Hub"
        )
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                name, revision=revision or None, allow_patterns=[CONFIG, "*.safetensors", f"*.safetensors{INDEX}"]
            )
        )
    except Exception as reason:  # the client has its own types for no network, no such repository, no permission
        raise FileNotFoundError(
            f"{source} is not a folder here, and the download from the Hub failed: {reason}"
        ) from None


def _weights_file(path: Path) -> Path:
    """The file itself; of a folder, its one file of weights, its one index, or the first of its one set of shards."""
    if path.is_file():
        return path
    if (path / WEIGHTS).is_file():
        return path / WEIGHTS
    for pattern in (f"*{INDEX}", "*.safetensors", "*.ckpt", "*.bin"):
        if found := first_files(sorted(path.glob(pattern))):
            break
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "none"
        raise FileNotFoundError(f"{path} should hold one .safetensors or .ckpt file (it has: {names}); name the file")
    return found[0]
