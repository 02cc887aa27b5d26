"""Time, throughput, memory, FLOPs and energy of encode and decode, over frames x size x dtype.

What a VAE costs does not depend on its weights, so it runs with random ones of the released configuration, at full size, on
purpose; `weights` in the record says "random".  Every measurement is a process of its own (`_worker.py`), so that memory,
caches and crashes do not leak from one to the next; running out of memory is a result.

A case is named by the shape that was asked for; the next legal shape is run, throughput counts its frames, and a note says so
where it differs.  FLOP/s are a share of the device's own matrix product.  Its own copy, in bytes/s, stands in the record's
`extra` and is no share of anything: the traffic of a call is not known.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import adapters
from vaebench.config import RunConfig
from vaebench.machine import device_name, pick_device
from vaebench.options import EfficiencyOptions as Options
from vaebench.profiling import worker
from vaebench.profiling.worker import Job, no_energy
from vaebench.records import Better, Score, by_key
from vaebench.settings import build as build_settings
from vaebench.suite import Candidate, Case, Suite
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.suite import Statistics

GPU_GRID = ([33], [256, 512, 768])  # frames, sizes: the WF-VAE paper's Figure 4
CPU_GRID = ([5], [64])  # what a processor does in minutes for every family: small, and its setting says so
LIMIT = 1024  # frames: where the search for the largest video ends


class Efficiency(Suite[Candidate]):
    name = "efficiency"
    needs_weights = False

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        _refuse(config, chosen)
        super().__init__(config)
        self.chosen = chosen
        self.device = pick_device(config.device)
        frames, sizes = GPU_GRID if self.device.type == "cuda" else CPU_GRID
        self.frames, self.sizes = chosen.frames or frames, chosen.sizes or sizes
        self.dtypes = chosen.dtypes or [config.dtype or "float32"]
        self.absent = {f"{half}_joules": why for half in HALVES} if (why := no_energy(self.device)) else {}
        self.columns = [f"{half}_{what}" for half in HALVES for what in ("s", "frames_per_s", "peak_bytes")]
        self.columns += ["decode_s_vs_own_decoder", "decode_peak_bytes_vs_own_decoder", "largest_frames"]
        self.identity = {**asdict(chosen), "mode": config.mode, "threads": torch.get_num_threads()}

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        """One of each network: variants that differ in weights alone cost the same."""
        networks: dict[tuple[object, ...], str] = {}
        for name in names:
            spec = adapters.find(name)
            networks.setdefault((spec.family, spec.parameters, spec.compression, spec.latent_channels), name)
        return list(networks.values())

    def setting(self, source: VideoSource) -> str:
        device = re.sub(r"[^a-z0-9.]+", "-", device_name(self.device).lower()).strip("-")
        flags = [name for name in ("tf32", "cudnn_benchmark", "compile", "channels_last") if getattr(self.chosen, name)]
        threads = [f"{torch.get_num_threads()}threads"] if self.device.type == "cpu" else []
        mode = [self.config.mode] if self.config.mode else []
        budget = [f"{self.chosen.memory_gib:g}gib"] if self.chosen.memory_gib else []
        return "-".join([device, *threads, *mode, *budget, *flags])

    def open(self, candidate: Candidate) -> Candidate:
        """The candidate itself: the workers load it, this process never does."""
        return candidate

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        grid = {
            f"{d} {f}x{s}": {"dtype": d, "frames": f, "size": s}
            for d in self.dtypes
            for f in self.frames
            for s in self.sizes
        }
        if self.chosen.largest:
            grid |= {f"{d} largest {s}": {"dtype": d, "size": s} for d in self.dtypes for s in self.sizes}
        return [Case(name, params=params) for name, params in grid.items()]

    def measure(self, vae: Candidate, case: Case) -> Statistics:
        dtype, size = case.params["dtype"], case.params["size"]
        asked = {f"asked_{name}": np.asarray(value) for name, value in case.params.items()}
        if "frames" not in case.params:
            return {**asked, **self._largest(vae, dtype, size)}
        frames = case.params["frames"]
        job = self._job(vae, dtype, frames, size)
        memory = self._measured(vae, job, "memory")
        if "out_of_memory" in memory:
            return {**asked, "out_of_memory": np.str_(memory["out_of_memory"])}
        time = self._measured(vae, job, "time")
        if "out_of_memory" in time:  # timing repeats may need a little more than one call does
            return {**asked, "out_of_memory": np.str_(time["out_of_memory"])}
        shape_run = {"frames": job.num_frames, "size": job.size}
        own = self._own_decoder(vae, job)
        return asked | {name: np.asarray(value) for name, value in {**shape_run, **memory, **time, **own}.items()}

    def _own_decoder(self, vae: Candidate, job: Job) -> dict[str, Any]:
        """Of a cross of two VAEs, what the decoder of the one that encodes costs at the same shape; of others, nothing."""
        encoder: Candidate | None = getattr(vae, "encoder", None)
        if encoder is None:
            return {}
        mode = job.mode if job.mode in encoder.spec.modes else encoder.spec.reference_mode
        own = replace(job, name=encoder.name, mode=mode)
        measured = self._measured(encoder, own, "memory")
        if "out_of_memory" not in measured:
            measured |= self._measured(encoder, own, "time")
        if "out_of_memory" in measured:
            return {"own_out_of_memory": np.str_(measured["out_of_memory"])}
        return {f"own_{name}": measured[name] for name in ("decode_s", "decode_above_bytes")}

    def _job(self, vae: Candidate, dtype: str, frames: int, size: int) -> Job:
        multiple = vae.spec.size_multiple
        flags = {name: getattr(self.chosen, name) for name in ("tf32", "cudnn_benchmark", "compile", "channels_last")}
        return Job(
            name=vae.name, device=str(self.device), dtype=dtype, num_frames=vae.spec.fit(frames),
            mode=self.config.mode or vae.spec.reference_mode,
            size=-(-size // multiple) * multiple, error=self.chosen.error, max_seconds=self.chosen.max_seconds,
            memory_gib=self.chosen.memory_gib, threads=torch.get_num_threads(), **flags,
        )  # fmt: skip

    def _measured(self, vae: Candidate, job: Job, what: str) -> dict[str, Any]:
        """One measurement, in a process of its own unless the VAE is an object, which exists in this process alone."""
        return self._spawn(job, what) if vae.name else worker.measure(what, job, vae)

    def _spawn(self, job: Job, what: str) -> dict[str, Any]:
        """One measurement in a process of its own; ValueError with its last words if it dies of anything but memory."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
        command = [sys.executable, "-m", "vaebench.profiling.worker", what, json.dumps(asdict(job))]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, env=environment, timeout=self.chosen.timeout_s
            )
        except subprocess.TimeoutExpired:
            raise ValueError(f"{what} took longer than timeout_s={self.chosen.timeout_s:g}") from None
        if done.returncode == -9:
            return {"out_of_memory": "killed by the system"}
        lines = done.stdout.strip().splitlines()
        if done.returncode or not lines:
            words = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
            raise ValueError(words)
        answer: dict[str, Any] = json.loads(lines[-1])
        return answer

    def _largest(self, vae: Candidate, dtype: str, size: int) -> Statistics:
        """The largest legal number of frames, up to LIMIT, that encodes and decodes: doubling, then halving the gap."""

        def fits(frames: int) -> bool:
            return "out_of_memory" not in self._measured(vae, self._job(vae, dtype, frames, size), "memory")

        spec = vae.spec
        beyond = spec.fit(LIMIT + 1)  # counts as too large, untried
        good, bad = 0, spec.fit(1)
        while bad < beyond and fits(bad):
            good, bad = bad, min(beyond, spec.fit(2 * bad))
        while spec.fit(good + 1) < bad:
            middle = spec.fit((good + bad) // 2)
            middle = middle if middle < bad else spec.fit(good + 1)
            good, bad = (middle, bad) if fits(middle) else (good, middle)
        return {"largest": np.int64(good), "ended_by_limit": np.bool_(bad == beyond)}

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        return by_key(score for kept in statistics.values() for score in _scores(kept))

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Percentiles of the times, the first (cold) call, and the device's own ceilings, for each case."""
        return {
            case: {
                name: _plain(value)
                for name, value in kept.items()
                if name not in ("encode_s", "decode_s", "own_decode_s")
            }
            | {f"{half}_s_percentiles": _percentiles(kept[f"{half}_s"]) for half in HALVES if f"{half}_s" in kept}
            for case, kept in statistics.items()
        }


HALVES = ("encode", "decode")
# of a run's settings, those that cost does not depend on, or that this suite has lists for
UNUSED = (
    "num_frames",
    "size",
    "data",
    "root",
    "manifest",
    "reader",
    "fetch",
    "clips",
    "protocol",
    "posterior",
    "seed",
    "weights",
)


def _refuse(config: RunConfig, chosen: Options) -> None:
    """ValueError for a setting that would change nothing, and for an impossible shape."""
    default = RunConfig()
    unused = [name for name in UNUSED if getattr(config, name) != getattr(default, name)]
    if unused:
        raise ValueError(
            f"the efficiency suite makes its own videos and weights and does not use {', '.join(unused)}; "
            "choose shapes with frames=[...] sizes=[...]"
        )
    if chosen.dtypes and config.dtype:
        raise ValueError(
            f"dtypes={chosen.dtypes} names the dtypes, and dtype={config.dtype} would not be used; leave it out"
        )
    for name in ("frames", "sizes"):
        if any(count < 1 for count in getattr(chosen, name)):
            raise ValueError(f"{name} are 1 or more, got {getattr(chosen, name)}")


def _scores(kept: Statistics) -> list[Score]:
    """The scores of one case."""
    condition: dict[str, str | int] = {
        name: kept[f"asked_{name}"].item() for name in ("dtype", "frames", "size") if f"asked_{name}" in kept
    }
    if "largest" in kept:
        note = f"all that was tried fits; the search ends at {LIMIT} frames" if kept["ended_by_limit"] else ""
        count = float(kept["largest"])
        return [Score(count, "frames", "higher", 1, note=note, metric="largest_frames", condition=condition)]
    if "out_of_memory" in kept:
        why = f"out of memory ({kept['out_of_memory']})"
        return [
            Score(None, "s", "lower", 0, note=why, metric=f"{half}_s", condition=condition, status="out of memory")
            for half in HALVES
        ]
    frames = int(kept["frames"])
    scores: list[Score] = []
    run, asked = ("x".join(str(int(kept[f"{which}{side}"])) for side in ("frames", "size")) for which in ("", "asked_"))
    note = f"{asked} is run as {run}, the next legal shape" if run != asked else ""

    def add(name: str, value: float, unit: str, better: Better, n: int = 1, **more: Any) -> None:
        scores.append(Score(float(value), unit, better, n, metric=name, condition=condition, **more))

    for half in HALVES:
        times = kept[f"{half}_s"].astype(np.float64)
        low, high = _median_interval(times)
        add(f"{half}_s", float(np.median(times)), "s", "lower", len(times), low=low, high=high, note=note)
        add(f"{half}_frames_per_s", frames / float(np.median(times)), "frames/s", "higher", len(times))
        add(f"{half}_clips_per_s", 1 / float(np.median(times)), "clips/s", "higher", len(times), note=note)
        add(f"{half}_peak_bytes", float(kept[f"{half}_above_bytes"]), "bytes", "lower")
        add(f"{half}_total_bytes", float(kept[f"{half}_total_bytes"]), "bytes", "lower")
        add(f"{half}_flop", float(kept[f"{half}_flop"]), "FLOP", "neither")
        achieved = float(kept[f"{half}_flop"]) / float(np.median(times))
        add(f"{half}_flop_per_s", achieved, "FLOP/s", "higher")
        add(f"{half}_of_peak", achieved / float(kept["matmul_flop_per_s"]), "of matmul ceiling", "higher")
        if f"{half}_joules" in kept:
            add(f"{half}_joules", float(kept[f"{half}_joules"]), "J", "lower")
    versus = {"decode_s": float(np.median(kept["decode_s"])), "decode_peak_bytes": float(kept["decode_above_bytes"])}
    if "own_decode_s" in kept:
        own = float(np.median(kept["own_decode_s"])), float(kept["own_decode_above_bytes"])
        for (name, value), before in zip(versus.items(), own, strict=True):
            if before > 0:
                add(f"{name}_vs_own_decoder", value / before, "ratio", "lower", note="to the encoder's own decoder")
    elif "own_out_of_memory" in kept:
        why = f"the encoder's own decoder is out of memory ({kept['own_out_of_memory']})"
        scores += [
            Score(
                None, "ratio", "lower", 0, note=why, metric=f"{name}_vs_own_decoder", condition=condition,
                status="out of memory",
            )
            for name in versus
        ]  # fmt: skip
    return scores


def _median_interval(times: NDArray) -> tuple[float | None, float | None]:
    """Order statistics that hold the median with a probability of at least 95 %, exactly; nothing below six times."""
    from scipy.stats import binom

    rank = int(binom.ppf(0.025, len(times), 0.5))  # from 1: this many are at or below the lower end
    if rank < 1:
        return None, None
    ordered = np.sort(times)
    return float(ordered[rank - 1]), float(ordered[-rank])


def _percentiles(times: NDArray) -> dict[str, float]:
    return {f"p{p}": float(np.percentile(times, p)) for p in (10, 50, 90, 99)}


def _plain(value: NDArray) -> Any:
    return value.item() if value.ndim == 0 else value.tolist()


def build(config: RunConfig) -> Efficiency:
    return Efficiency(config, build_settings(Options, config.options))
