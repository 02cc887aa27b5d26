"""The machine: what it is (for the record), how long a call takes on it, and how much memory.

Timing is honest or it is nothing: the device is synchronised on both sides of the clock.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vaebench import __version__
from vaebench.allocator import freed_memory_returned, is_glibc

if TYPE_CHECKING:
    import torch

PACKAGES = ("torchvision", "numpy", "diffusers", "lpips", "av")


@dataclass(frozen=True)
class Machine:
    """Everything of the machine that can change a number or a time."""

    device: str  # the GPU's or the processor's own name
    driver: str
    cuda: str
    torch: str
    python: str
    packages: dict[str, str]
    commit: str  # of vaebench; where it is installed without one: "sha256:" and the digest of its source files
    dirty: bool  # the checkout had uncommitted changes
    flags: dict[str, Any]  # tf32, cudnn.benchmark, deterministic, threads


@dataclass
class Elapsed:
    seconds: float = float("nan")  # known when the block has ended


@dataclass
class Peak:
    total_bytes: int = 0  # high-water mark inside the block
    above_bytes: int = 0  # the same, above what was in use when the block began


def pick_device(name: str) -> torch.device:
    """ "auto" -> this process's own GPU if there is one; ValueError for a device that is not here."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device={name!r}: torch knows no such device; try auto, cpu or cuda") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name!r}: this machine has no CUDA device that torch can use")
    if device.type == "cuda" and (device.index or 0) >= (count := torch.cuda.device_count()):
        raise ValueError(
            f"device={name!r}: this machine has {count} CUDA device{'s' * (count > 1)}, counted from cuda:0"
        )
    if name == "cuda":
        return torch.device("cuda", local_rank() % torch.cuda.device_count())
    return device


def without_tf32() -> None:
    """From now on float32 is float32: TF32, which torch allows convolutions by default, costs three digits of them."""
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def device_name(device: torch.device) -> str:
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
    )


def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


@cache
def _checkout() -> tuple[str, bool]:
    """What identifies vaebench's code, and whether its checkout has uncommitted changes.

    The commit of its own checkout (not of the folder the user stands in), or the one that `pip install git+URL` recorded;
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


def synchronize(device: torch.device) -> None:
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def stopwatch(device: torch.device) -> Iterator[Elapsed]:
    """Seconds of the block, the device idle at both ends."""
    elapsed = Elapsed()
    synchronize(device)
    start = time.perf_counter()
    yield elapsed
    synchronize(device)
    elapsed.seconds = time.perf_counter() - start


def memory_is_known(device: torch.device) -> bool:
    """Whether `peak_memory` measures the memory in use: on a GPU, and on a CPU whose C library is glibc."""
    return device.type == "cuda" or is_glibc()


@contextmanager
def peak_memory(device: torch.device) -> Iterator[Peak]:
    """High-water mark of the block: the CUDA allocator's on a GPU, the resident set's on a CPU.

    On a CPU the kernel's mark is reset where it can be (Linux); where it cannot, only a fresh process measures truly.
    Page faults make the block slow on a CPU: take its time in another run.
    """
    import torch

    peak = Peak()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        torch.cuda.synchronize(device)
        peak.total_bytes = torch.cuda.max_memory_allocated(device)
    else:
        with freed_memory_returned():
            _reset_resident_peak()
            before = resident_bytes()
            yield peak
            peak.total_bytes = resident_peak_bytes()
    peak.above_bytes = max(0, peak.total_bytes - before)


def _reset_resident_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def resident_bytes() -> int:
    import psutil

    used: int = psutil.Process().memory_info().rss
    return used


def resident_peak_bytes() -> int:
    """The process's resident high-water mark since it began, or since its last reset."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def rank_and_world() -> tuple[int, int]:
    """This process and how many, as torchrun (RANK, WORLD_SIZE) or Slurm's srun say; (0, 1) alone.

    Both of a pair must be there: a batch job of Slurm names its tasks also where nothing was started with srun.
    """
    for rank, world in (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS")):
        if rank in os.environ and world in os.environ:
            index, total = os.environ[rank], os.environ[world]
            if not (index.isdigit() and total.isdigit() and int(index) < int(total)):
                raise ValueError(f"{rank}={index!r} and {world}={total!r} are not a process and how many there are")
            return int(index), int(total)
    return 0, 1


def local_rank() -> int:
    """Which of this machine's GPUs is this process's own, as torchrun or srun say; 0 alone."""
    said = os.environ.get("LOCAL_RANK", os.environ.get("SLURM_LOCALID", "0"))
    return int(said) if said.isdigit() else 0
