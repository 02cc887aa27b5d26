"""The machine: which device a run uses, and what its record states of hardware, libraries and code."""

from __future__ import annotations

import hashlib
import json
import platform
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import __version__
from vaebench.distributed import local_rank

if TYPE_CHECKING:
    import torch

PACKAGES = ("torchvision", "numpy", "diffusers", "lpips", "av")


@dataclass(frozen=True)
class Machine:
    """What of the machine and its software can change a score or a time."""

    device: str  # model name of the GPU or the CPU
    driver: str
    cuda: str
    cudnn: str  # such as "9.15.1"; "" on a CPU, as driver and cuda
    torch: str
    python: str
    packages: dict[str, str]
    commit: str  # of vaebench; if it was installed without one, "sha256:" and the digest of its source files
    dirty: bool  # the checkout had uncommitted changes
    flags: dict[str, Any]  # tf32, cudnn.benchmark, deterministic, threads
    notes: list[str]  # known faults of these libraries on this device (`known_faults`)


def pick_device(name: str) -> torch.device:
    """The device called `name`; "auto" is the GPU of this process if there is one, otherwise the CPU.

    Raises:
        ValueError: unknown to torch, or unavailable on this machine
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r}: unknown to torch; use auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}: unavailable, torch finds no CUDA device on this machine; use device=cpu")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(
            f"device={name!r}: this machine has {count} CUDA device{'s' * (count > 1)}, counted from cuda:0"
        )
    if name == "cuda":
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    return device


def gpu_flags(
    tf32: bool | None, cudnn_benchmark: bool | None, device: torch.device, default: bool = False
) -> dict[str, bool]:
    """The flags of torch for a run: "tf32" and "cudnn_benchmark"; None is `default` on a GPU, and off on a CPU.

    Raises:
        ValueError: a flag is on and the device is a CPU, where it would change nothing
    """
    given = {"tf32": tf32, "cudnn_benchmark": cudnn_benchmark}
    on_gpu = device.type == "cuda"
    if not on_gpu and (on := [name for name, value in given.items() if value]):
        raise ValueError(f"{on[0]}=true would change nothing on a CPU: leave it out, or use device=cuda")
    return {name: default and on_gpu if value is None else value for name, value in given.items()}


def set_flags(tf32: bool, cudnn_benchmark: bool) -> None:
    """Allow TF32 in float32 products and convolutions, and let cuDNN measure its algorithms first, or neither.

    TF32, which torch allows in convolutions by default, loses three digits.
    """
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.benchmark = cudnn_benchmark


@contextmanager
def flags_set(tf32: bool, cudnn_benchmark: bool) -> Iterator[None]:
    """`set_flags` for the block; after it, the flags are as before."""
    import torch

    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark
    set_flags(tf32, cudnn_benchmark)
    try:
        yield
    finally:
        products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark = before


def device_name(device: torch.device) -> str:
    """The model name of the GPU or the CPU."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else _processor()


@cache
def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def describe(device: torch.device) -> Machine:
    """The machine, for a record."""
    import torch

    commit, dirty = _checkout()
    return Machine(
        device=device_name(device),
        driver=_driver() if device.type == "cuda" else "",
        cuda=torch.version.cuda or "" if device.type == "cuda" else "",
        cudnn=cudnn_version(device),
        torch=torch.__version__,
        python=platform.python_version(),
        packages={"vaebench": __version__, **versions()},
        commit=commit,
        dirty=dirty,
        flags={
            "tf32": torch.backends.cuda.matmul.allow_tf32 or torch.backends.cudnn.allow_tf32,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "threads": torch.get_num_threads(),
        },
        notes=known_faults(device),
    )


def cudnn_version(device: torch.device) -> str:
    """The version of cuDNN, such as "9.15.1"; "" on a CPU, and if torch was built without it."""
    import torch

    number = torch.backends.cudnn.version() if device.type == "cuda" else None
    if number is None:
        return ""
    thousand = 10_000 if number >= 90_000 else 1_000  # 9.15.1 is 91501, 8.9.7 is 8907
    return f"{number // thousand}.{number % thousand // 100}.{number % 100}"


def known_faults(device: torch.device) -> list[str]:
    """Faults of the installed libraries that change the cost of a VAE on a GPU, each with its remedy; [] on a CPU."""
    import torch

    return faults_of(torch.__version__, cudnn_version(device))


def faults_of(torch_version: str, cudnn: str) -> list[str]:
    """`known_faults` of versions such as "2.9.1+cu128" and "9.10.2"; cudnn is "" on a CPU."""
    if not cudnn or _numbers(torch_version)[:2] != (2, 9) or _numbers(cudnn) >= (9, 15):
        return []
    return [
        f"torch {torch_version} with cuDNN {cudnn}: 3-D convolutions in bfloat16 and float16 may use three times the memory and "
        "are slower (pytorch/pytorch#166643); install torch 2.10 or later, or torch 2.9.1 with nvidia-cudnn 9.15 or later"
    ]


def _numbers(version: str) -> tuple[int, ...]:
    """The numbers of a version: 2.9.1+cu128 -> (2, 9, 1)."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))


def versions() -> dict[str, str]:
    """The installed versions of PACKAGES."""
    return {name: metadata.version(name) for name in PACKAGES}


@cache
def _checkout() -> tuple[str, bool]:
    """What identifies the code of vaebench, and whether its checkout has uncommitted changes.

    It is the commit of its own checkout (not of the current folder), or the one that `pip install git+URL` recorded,
    otherwise a digest of the source files.
    """
    here = Path(__file__).resolve().parent.parent

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here), *words], capture_output=True, text=True, check=True
        ).stdout.strip()

    if (here / ".git").exists():
        with suppress(OSError, subprocess.CalledProcessError):
            return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no", "--", "*.py"))
    return _installed_commit(here) or f"sha256:{source_digest(here)}", False


def _installed_commit(here: Path) -> str:
    """The commit from which pip installed the vaebench in `here` (direct_url.json, PEP 610); "" if it was not git."""
    try:
        distribution = metadata.distribution("vaebench")
        if Path(str(distribution.locate_file(""))).resolve() != here:
            return ""  # another vaebench of this environment
        direct = json.loads(distribution.read_text("direct_url.json") or "{}")
        return str(direct.get("vcs_info", {}).get("commit_id", ""))
    except (metadata.PackageNotFoundError, ValueError, AttributeError):
        return ""


def source_digest(root: Path) -> str:
    """sha256 of the Python and YAML files of our packages below `root`, names and contents, in sorted order."""
    digest = hashlib.sha256()
    for package in ("adapters", "vaebench", "wfvae"):
        files = [file for ending in ("py", "yaml") for file in (root / package).rglob(f"*.{ending}")]
        for file in sorted(files, key=lambda file: file.relative_to(root).as_posix()):
            content = file.read_bytes()
            digest.update(f"{file.relative_to(root).as_posix()}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


@cache
def _driver() -> str:
    try:
        out = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],
            capture_output=True, text=True, check=True, timeout=10,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return ""
    return out.stdout.splitlines()[0].strip()
