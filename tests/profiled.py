"""A job of the efficiency suite, and what its tests build."""

import torch

import adapters
from vaebench.config import parse_run
from vaebench.profiling import worker
from vaebench.suites import efficiency

CPU = torch.device("cpu")


def suite(*words: str) -> efficiency.Efficiency:
    return efficiency.build(parse_run(["device=cpu", "max_seconds=0.3", *words], suite="efficiency"))


def job(**flags: bool) -> worker.Job:
    some = dict.fromkeys(("tf32", "cudnn_benchmark", "compile", "channels_last"), False)
    return worker.Job(
        name="toy/a", device="cpu", dtype="float32", mode="whole", num_frames=5, size=16, error=0.5, max_seconds=60.0,
        memory_gib=0.0, threads=1, **{**some, **flags},
    )  # fmt: skip


UNUSED = adapters.resolve("pool/4x8x8")  # where `prepare` is replaced
