"""Time, throughput, memory, FLOPs and energy of encode and decode, over frames x size x dtype.

The cost of a VAE does not depend on its weights, so it runs with random weights in the released configuration, at full size;
the record states "random" for `weights`.  Every measurement is a process of its own (`vaebench.profiling.worker`), so that
memory, caches and crashes do not affect the next one.  Running out of memory is a result.

A case is named by the requested shape.  The next valid shape is run, throughput counts its frames, and a note states it if it
differs.  FLOP/s are also given as a fraction of the rate of a matrix product on the same device.  The rate of a copy, in
bytes/s, is in the record's `extra` for information: the memory traffic of a call is unknown.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

import adapters
from vaebench import frame_size
from vaebench.config import RunConfig
from vaebench.frame_size import Size
from vaebench.machine import device_name, pick_device
from vaebench.options import EfficiencyOptions as Options
from vaebench.profiling import grid, worker
from vaebench.profiling.worker import Job, no_energy
from vaebench.records import Better, Record, Score, by_key
from vaebench.settings import build as build_settings
from vaebench.suite import Candidate, Case, Suite
from vaebench.vae import VAESpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vaebench.data import VideoSource
    from vaebench.suite import Statistics

Grid = tuple[list[int], list[Size]]
GPU_GRID: Grid = ([33], [256, 512, 768])  # frames, sizes: the WF-VAE paper's Figure 4
CPU_GRID: Grid = ([5], [64])  # small enough for minutes per family on a CPU; the device is part of the setting's name
LIMIT = 1024  # frames, at which the search for the longest video ends


class Efficiency(Suite[Candidate]):
    name = "efficiency"
    needs_weights = False
    measures_speed = True
    unused: ClassVar[dict[str, str]] = dict.fromkeys(
        (
            *("num_frames", "size", "data", "root", "manifest", "reader", "fetch", "clips"),
            *("protocol", "posterior", "seed", "weights"),
        ),
        "the efficiency suite makes its own videos and weights; choose shapes with frames=[...] sizes=[...]",
    )

    def __init__(self, config: RunConfig, chosen: Options) -> None:
        super().__init__(config)
        if chosen.dtypes and config.dtype:
            raise ValueError(f"dtype={config.dtype} would change nothing: dtypes={chosen.dtypes} selects the dtypes")
        if any(count < 1 for count in chosen.frames):
            raise ValueError(f"frames={chosen.frames} should be 1 or more each")
        self.chosen = chosen
        self.flags |= {name: getattr(chosen, name) for name in ("compile", "channels_last")}
        self.device = pick_device(config.device)
        frames, sizes = GPU_GRID if self.device.type == "cuda" else CPU_GRID
        self.frames, self.sizes = chosen.frames or frames, chosen.sizes or sizes
        self.dtypes = chosen.dtypes or [config.dtype or "float32"]
        self.absent = {f"{half}_joules": why for half in HALVES} if (why := no_energy(self.device)) else {}
        self.columns = [f"{half}_{what}" for half in HALVES for what in ("s", "frames_per_s", "peak_bytes")]
        self.columns += ["decode_s_vs_own_decoder", "decode_peak_bytes_vs_own_decoder", "largest_frames"]
        self.identity = {**asdict(chosen), **self.flags, "mode": config.mode, "threads": torch.get_num_threads()}

    def default_vaes(self, names: Sequence[str]) -> list[str]:
        """One name per network: variants that differ only in their weights have the same cost."""
        networks: dict[tuple[object, ...], str] = {}
        for name in names:
            spec = adapters.find(name)
            networks.setdefault((spec.family, spec.parameters, spec.compression, spec.latent_channels), name)
        return list(networks.values())

    def setting(self, source: VideoSource) -> str:
        device = re.sub(r"[^a-z0-9.]+", "-", device_name(self.device).lower()).strip("-")
        flags = [name for name, on in self.flags.items() if on]
        threads = [f"{torch.get_num_threads()}threads"] if self.device.type == "cpu" else []
        mode = [self.config.mode] if self.config.mode else []
        budget = [f"{self.chosen.memory_gib:g}gib"] if self.chosen.memory_gib else []
        return "-".join([device, *threads, *mode, *budget, *flags])

    def open(self, candidate: Candidate) -> Candidate:
        """The candidate itself, which only the workers load."""
        return candidate

    def cases(self, source: VideoSource, spec: VAESpec) -> Iterable[Case]:
        cases = grid.cases(self.dtypes, self.frames, self.sizes, largest=self.chosen.largest)
        return [Case(name, params=params) for name, params in cases.items()]

    def replacement_refusal(self, record: Record, cases: Sequence[Case]) -> str:
        """The setting's name does not list the cases, so a run with fewer of them would write the same file."""
        return grid.replacement_refusal(record, [case.params for case in cases])

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
        if "out_of_memory" in time:  # repeated calls may need a little more than one call
            return {**asked, "out_of_memory": np.str_(time["out_of_memory"])}
        shape_run = {"frames": job.num_frames, "size": job.size}
        own = self._own_decoder(vae, job)
        return asked | {name: np.asarray(value) for name, value in {**shape_run, **memory, **time, **own}.items()}

    def _own_decoder(self, vae: Candidate, job: Job) -> dict[str, Any]:
        """For a cross of two VAEs, the cost of the encoder's own decoder at the same shape; otherwise {}."""
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

    def _job(self, vae: Candidate, dtype: str, frames: int, size: Size) -> Job:
        multiple = vae.spec.size_multiple
        height, width = (-(-side // multiple) * multiple for side in frame_size.parse(size))
        return Job(
            name=vae.name, device=str(self.device), dtype=dtype, num_frames=vae.spec.fit(frames),
            mode=self.config.mode or vae.spec.reference_mode,
            size=frame_size.plain(f"{height}x{width}"), error=self.chosen.error, max_seconds=self.chosen.max_seconds,
            memory_gib=self.chosen.memory_gib, threads=torch.get_num_threads(), **self.flags,
        )  # fmt: skip

    def _measured(self, vae: Candidate, job: Job, what: str) -> dict[str, Any]:
        """One measurement, in a new process unless the VAE is an object, which only this process has."""
        return self._spawn(job, what) if vae.name else worker.measure(what, job, vae)

    def _spawn(self, job: Job, what: str) -> dict[str, Any]:
        """One measurement in a new process.

        Raises:
            ValueError: the process failed for another reason than memory (with its last line), or reached `timeout_s`
        """
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

    def _largest(self, vae: Candidate, dtype: str, size: Size) -> Statistics:
        """The largest valid number of frames up to LIMIT that encodes and decodes, by doubling and then bisection."""

        def fits(frames: int) -> bool:
            return "out_of_memory" not in self._measured(vae, self._job(vae, dtype, frames, size), "memory")

        spec = vae.spec
        beyond = spec.fit(LIMIT + 1)  # regarded as too large without a trial
        good, bad = 0, spec.fit(1)
        while bad < beyond and fits(bad):
            good, bad = bad, min(beyond, spec.fit(2 * bad))
        while spec.fit(good + 1) < bad:
            middle = spec.fit((good + bad) // 2)
            middle = middle if middle < bad else spec.fit(good + 1)
            good, bad = (middle, bad) if fits(middle) else (good, middle)
        return {"largest": np.int64(good), "ended_by_limit": np.bool_(bad == beyond)}

    def summarize(self, statistics: Mapping[str, Statistics]) -> dict[str, Score]:
        return by_key(score for case in statistics.values() for score in _scores(case))

    def extra(self, statistics: Mapping[str, Statistics]) -> dict[str, Any]:
        """Percentiles of the times, the first (cold) call, and the ceilings of the device, for each case."""
        return {
            case: {
                name: _plain(value)
                for name, value in measured.items()
                if name not in ("encode_s", "decode_s", "own_decode_s")
            }
            | {
                f"{half}_s_percentiles": _percentiles(measured[f"{half}_s"])
                for half in HALVES
                if f"{half}_s" in measured
            }
            for case, measured in statistics.items()
        }


HALVES = ("encode", "decode")


def _scores(measured: Statistics) -> list[Score]:
    """The scores of one case."""
    condition: dict[str, str | int] = {
        name: measured[f"asked_{name}"].item() for name in ("dtype", "frames", "size") if f"asked_{name}" in measured
    }
    if "largest" in measured:
        note = (
            f"a lower bound: every length up to the limit of {LIMIT} frames fits" if measured["ended_by_limit"] else ""
        )
        count = float(measured["largest"])
        return [Score(count, "frames", "higher", 1, note=note, metric="largest_frames", condition=condition)]
    if "out_of_memory" in measured:
        reason = f"out of memory ({measured['out_of_memory']})"
        return [
            Score(None, "s", "lower", 0, note=reason, metric=f"{half}_s", condition=condition, status="out of memory")
            for half in HALVES
        ]
    frames = int(measured["frames"])
    scores: list[Score] = []
    run, asked = ("x".join(str(measured[f"{which}{side}"]) for side in ("frames", "size")) for which in ("", "asked_"))
    note = f"{asked} is run as {run}, the next valid shape" if run != asked else ""

    def add(name: str, value: float, unit: str, better: Better, n: int = 1, **more: Any) -> None:
        scores.append(Score(float(value), unit, better, n, metric=name, condition=condition, **more))

    for half in HALVES:
        times = measured[f"{half}_s"].astype(np.float64)
        low, high = _median_interval(times)
        add(f"{half}_s", float(np.median(times)), "s", "lower", len(times), low=low, high=high, note=note)
        add(f"{half}_frames_per_s", frames / float(np.median(times)), "frames/s", "higher", len(times))
        add(f"{half}_clips_per_s", 1 / float(np.median(times)), "clips/s", "higher", len(times), note=note)
        add(f"{half}_peak_bytes", float(measured[f"{half}_above_bytes"]), "bytes", "lower")
        add(f"{half}_total_bytes", float(measured[f"{half}_total_bytes"]), "bytes", "lower")
        add(f"{half}_flop", float(measured[f"{half}_flop"]), "FLOP", "neither", note=_flop_note(measured))
        achieved = float(measured[f"{half}_flop"]) / float(np.median(times))
        add(f"{half}_flop_per_s", achieved, "FLOP/s", "higher")
        add(f"{half}_of_peak", achieved / float(measured["matmul_flop_per_s"]), "of matmul ceiling", "higher")
        if f"{half}_joules" in measured:
            add(f"{half}_joules", float(measured[f"{half}_joules"]), "J", "lower")
    versus = {
        "decode_s": float(np.median(measured["decode_s"])),
        "decode_peak_bytes": float(measured["decode_above_bytes"]),
    }
    if "own_decode_s" in measured:
        own = float(np.median(measured["own_decode_s"])), float(measured["own_decode_above_bytes"])
        for (name, value), before in zip(versus.items(), own, strict=True):
            if before > 0:
                add(
                    f"{name}_vs_own_decoder",
                    value / before,
                    "ratio",
                    "lower",
                    note="ratio to the encoder's own decoder",
                )
    elif "own_out_of_memory" in measured:
        reason = f"the encoder's own decoder is out of memory ({measured['own_out_of_memory']})"
        scores += [
            Score(
                None, "ratio", "lower", 0, note=reason, metric=f"{name}_vs_own_decoder", condition=condition,
                status="out of memory",
            )
            for name in versus
        ]  # fmt: skip
    return scores


def _flop_note(measured: Statistics) -> str:
    """Where FLOPs were counted, unless it was on the meta device, where no operation is missed."""
    device = str(measured.get("flop_device", "meta"))
    return "" if device == "meta" else f"counted on {device}: operations of fused kernels may be missing"


def _median_interval(times: NDArray) -> tuple[float | None, float | None]:
    """Order statistics that contain the median with a probability of at least 95 %; (None, None) for less than six times."""
    from scipy.stats import binom

    rank = int(binom.ppf(0.025, len(times), 0.5))  # of the lower end, counted from 1
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
