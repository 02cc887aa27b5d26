"""One efficiency measurement in a new process: `python -m vaebench.profiling.worker time|memory '{job}'`.

Prints one line of JSON.  Time and memory are measured in two processes: memory needs an allocator that returns freed blocks to
the system at once, so that the resident set equals the memory in use, and this allocator is slower.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

import adapters
from vaebench import frame_size
from vaebench.device_idle import Profiler, profiler_of, union_seconds
from vaebench.frame_size import Size
from vaebench.suite import Candidate
from vaebench.timing import is_out_of_memory, peak_memory, stopwatch, synchronize
from vaebench.vae import VideoVAE, check_posterior, networks

WARM_CALLS = 3  # at least, and until two in a row differ by less than 5 %
MOST_WARM_CALLS = 8
FEWEST = 8  # timed calls, for a reliable spread
FEWEST_LATE = 3  # timed calls after `max_seconds`
MOST = 200


@dataclass(frozen=True)
class Job:
    name: str
    device: str
    dtype: str
    mode: str
    num_frames: int
    size: Size
    error: float
    max_seconds: float
    memory_gib: float
    threads: int
    tf32: bool
    cudnn_benchmark: bool
    compile: bool
    channels_last: bool


def measure(what: str, job: Job, candidate: Candidate) -> dict[str, Any]:
    """The "time" or the "memory" of a VAE; {"out_of_memory": ...} if it does not fit."""
    try:
        with torch.inference_mode():
            return measure_time(job, candidate) if what == "time" else measure_memory(job, candidate)
    except (MemoryError, RuntimeError) as error:
        if is_out_of_memory(error):
            return {"out_of_memory": f"{'x'.join(map(str, (job.num_frames, *frame_size.parse(job.size))))} {job.dtype}"}
        raise


def prepare(job: Job, candidate: Candidate) -> tuple[VideoVAE, Tensor, torch.device]:
    """Set the flags of torch, and return the VAE, a video (1, 3, T, H, W) in -1..1 on its device, and the device."""
    torch.set_num_threads(job.threads)
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = job.tf32
    torch.backends.cudnn.benchmark = job.cudnn_benchmark
    device = torch.device(job.device)
    limit_memory(job.memory_gib, device)
    torch.manual_seed(0)
    vae = candidate.load(job.mode, device=device, dtype=getattr(torch, job.dtype), random_weights=True)
    if job.channels_last:
        to_channels_last(vae)
    # noise, not zeros: sparse or constant input changes the power and the clock rate of a device
    shape = (1, 3, job.num_frames, *frame_size.parse(job.size))
    video = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return vae, video.to(device), device


def limit_memory(gib: float, device: torch.device) -> None:
    """Limit the memory of this process to `gib` GiB; 0 sets no limit."""
    if not gib:
        return
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, gib * 2**30 / total), device)
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (int(gib * 2**30),) * 2)


def to_channels_last(vae: VideoVAE) -> None:
    """Store the weights of convolutions in channels-last memory format.

    Raises:
        ValueError: the VAE has no torch module, so the setting would change nothing
    """
    modules = networks(vae)
    if not modules:
        raise ValueError(
            f"{vae.spec.name} has no torch module, so channels_last=true would change nothing; leave it out"
        )
    for network in modules:
        for parameter in network.parameters():
            if parameter.dim() in (4, 5):
                form = torch.channels_last if parameter.dim() == 4 else torch.channels_last_3d
                parameter.data = parameter.data.contiguous(memory_format=form)


def halves(vae: VideoVAE, job: Job) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """Encode and decode, compiled if the job asks for it."""
    encode: Callable[[Tensor], Tensor] = lambda clip: check_posterior(vae, vae.encode(clip)).mode()  # noqa: E731
    return (torch.compile(encode), torch.compile(vae.decode)) if job.compile else (encode, vae.decode)


def measure_time(job: Job, candidate: Candidate) -> dict[str, Any]:
    vae, video, device = prepare(job, candidate)
    encode, decode = halves(vae, job)
    video_before = video.clone()
    measured = timed("encode", partial(encode, video), device, job)  # includes the first (cold) call
    refuse_changed("encode", job, video_before, video)
    latent = encode(video).clone()
    latent_before = latent.clone()
    measured |= timed("decode", partial(decode, latent), device, job)
    refuse_changed("decode", job, latent_before, latent)
    return measured | ceilings(device, getattr(torch, job.dtype))


def refuse_changed(half: str, job: Job, before: Tensor, after: Tensor) -> None:
    """Refuse a VAE that changes its input.

    Raises:
        ValueError: `half` wrote into its argument, so repeated calls had different inputs
    """
    if not torch.equal(before, after):
        raise ValueError(f"{job.name}: {half} writes into its input, so repeated calls differ; copy it in the adapter")


def timed(half: str, call: Callable[[], Tensor], device: torch.device, job: Job) -> dict[str, Any]:
    cold, warm = warm_up(call, device, job.max_seconds)
    energy = None if no_energy(device) else energy_meter(device)
    times = repeat(call, device, job.error, job.max_seconds)
    measured: dict[str, Any] = {f"{half}_cold_s": cold, f"{half}_warm_calls": warm, f"{half}_s": times}
    measured |= {} if energy is None else {f"{half}_joules": energy() / len(times)}
    idle = idle_share(call, profiler_of(device), statistics.median(times))
    return measured if idle is None else {**measured, f"{half}_idle_share": idle}


def idle_share(call: Callable[[], Any], profiler: Profiler | None, seconds: float) -> float | None:
    """The share of a call during which the GPU executes nothing, such as while Python starts kernels; None if it is unknown.

    Args:
        profiler: records the kernels of one more call
        seconds: time of a call without a profiler, which makes a call slower
    """
    if profiler is None:
        return None
    profiler.start()
    call()
    busy = union_seconds(profiler.stop())
    return max(0.0, 1 - busy / seconds) if busy else None


def warm_up(call: Callable[[], Any], device: torch.device, max_seconds: float) -> tuple[float, int]:
    """Call until the time is stable.

    Returns:
        seconds of the first call, and the number of calls
    """
    times: list[float] = []
    while len(times) < MOST_WARM_CALLS and (sum(times) < max_seconds or not times):
        with stopwatch(device) as elapsed:
            call()
        times.append(elapsed.seconds)
        if len(times) >= WARM_CALLS and abs(times[-1] - times[-2]) < 0.05 * times[-1]:
            break
    return times[0], len(times)


def repeat(call: Callable[[], Any], device: torch.device, error: float, max_seconds: float) -> list[float]:
    """Seconds of each call, until the 95 % interval of the mean (Student's t) is within a fraction `error` of it, or time is up."""
    from scipy.stats import t

    times: list[float] = []
    end = time.perf_counter() + max_seconds
    while len(times) < MOST:
        with stopwatch(device) as elapsed:
            call()
        times.append(elapsed.seconds)
        if time.perf_counter() > end and len(times) >= FEWEST_LATE:
            break
        if len(times) < FEWEST:
            continue
        n, mean = len(times), statistics.fmean(times)
        if t.ppf(0.975, n - 1) * statistics.stdev(times) / n**0.5 <= error * mean:
            break
    return times


def energy_meter(device: torch.device) -> Callable[[], float]:
    """A function that returns the energy in joules that the GPU has used since this call.

    Raises:
        ValueError: energy cannot be measured here, with the reason
    """
    if device.type != "cuda":
        raise ValueError("energy is only measured on NVIDIA GPUs (NVML)")
    try:
        import pynvml
    except ImportError:
        raise ValueError("energy needs pynvml (package nvidia-ml-py): pip install 'vaebench[gpu]'") from None
    try:
        pynvml.nvmlInit()
        # by UUID, because NVML also counts GPUs that CUDA_VISIBLE_DEVICES hides
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except pynvml.NVMLError as error:  # no permission, a MIG partition, or a GPU older than Volta
        raise ValueError(f"NVML does not report the energy of this GPU: {error}") from None
    return lambda: (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start) / 1000


def no_energy(device: torch.device) -> str:
    """Why energy cannot be measured here; "" if it can."""
    try:
        energy_meter(device)
    except ValueError as reason:
        return str(reason)
    return ""


def ceilings(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """The best rates of the device, measured now: a square matrix product in FLOP/s, a copy in bytes/s (read and written)."""
    side, count = (8192, 1 << 28) if device.type == "cuda" else (1024, 1 << 24)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    source = torch.empty(count, device=device)
    target = torch.empty_like(source)
    product = best(lambda: a @ b, device)
    copy = best(lambda: target.copy_(source), device)
    return {"matmul_flop_per_s": 2 * side**3 / product, "copy_bytes_per_s": 2 * source.nbytes / copy}


def best(call: Callable[[], Any], device: torch.device) -> float:
    """The shortest time of several calls, in seconds, because a ceiling is the best that the device can do."""
    call()
    shortest, end = float("inf"), time.perf_counter() + 0.5
    while time.perf_counter() < end:
        with stopwatch(device) as elapsed:
            call()
        shortest = min(shortest, elapsed.seconds)
    return shortest


def measure_memory(job: Job, candidate: Candidate) -> dict[str, Any]:
    """Peak memory of one encode and one decode, in total and above the memory in use before; FLOPs; and parameters."""
    vae, video, device = prepare(job, candidate)
    measured: dict[str, Any] = {"parameters": sum(p.numel() for network in networks(vae) for p in network.parameters())}
    encode, decode = halves(vae, job)
    latent = encode(video)  # the first call also loads kernels and fills caches, whose memory remains in use
    decode(latent)
    for half, call in {"encode": partial(encode, video), "decode": partial(decode, latent)}.items():
        with peak_memory(device) as peak:
            call()
        measured |= {f"{half}_above_bytes": peak.above_bytes, f"{half}_total_bytes": peak.total_bytes}
    synchronize(device)
    return measured | count_flops(job, candidate, vae, video)


def count_flops(job: Job, candidate: Candidate, vae: VideoVAE, video: Tensor) -> dict[str, Any]:
    """FLOPs of encode and decode, and the device on which they were counted.

    They are counted on PyTorch's meta device, which computes nothing: there every convolution is one operation of the
    counter.  On a real device, a faster algorithm (Winograd) counts less and a fused kernel nothing.  A VAE that needs values,
    and one that is an object of this process, is counted on the device of the job, without `torch.compile`.
    """
    if candidate.name:
        try:
            meta, frames, _ = prepare(replace(job, device="meta", memory_gib=0.0), candidate)
            return {**_flops(meta, frames), "flop_device": "meta"}
        except (NotImplementedError, RuntimeError, ValueError):  # it reads values, or has no meta kernel
            pass
    return {**_flops(vae, video), "flop_device": video.device.type}


def _flops(vae: VideoVAE, video: Tensor) -> dict[str, int]:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as encoding:
        latent = check_posterior(vae, vae.encode(video)).mode()
    with FlopCounterMode(display=False) as decoding:
        vae.decode(latent)
    return {"encode_flop": encoding.get_total_flops(), "decode_flop": decoding.get_total_flops()}


if __name__ == "__main__":
    asked = Job(**json.loads(sys.argv[2]))
    print(json.dumps(measure(sys.argv[1], asked, adapters.resolve(asked.name))))
