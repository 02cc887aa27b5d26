"""Several clips in one call of a VAE: the same scores, failures and stored cases as with single clips."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

import vaebench
from adapters.pool import Pool
from vaebench import cli, evaluation, plugins, runner
from vaebench.config import parse_run
from vaebench.inference import batching
from vaebench.inference.batching import BatchSizes
from vaebench.overlap import Overlap
from vaebench.prefetch import Prefetch
from vaebench.suite import Case
from vaebench.suites.reconstruction import Reconstruction
from vaebench.timing import Peak
from vaebench.video import Clip, to_model

BUNDLE = Path(__file__).parent.parent / "vaebench" / "data" / "bundle"
SMALL = ["num_frames=5", "size=32", "metrics=[psnr,ssim]"]
GB = 1 << 30


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of clips in each call of `pool`."""
    real, sizes = Pool.encode, list[int]()

    def encode(self: Pool, video: torch.Tensor) -> vaebench.Posterior:
        sizes.append(len(video))
        return real(self, video)

    monkeypatch.setattr(Pool, "encode", encode)
    return sizes


def stored(folder: str) -> dict[str, dict[str, np.ndarray]]:
    """File name -> the stored statistics of a case."""
    found = {}
    for file in Path(folder).rglob("*.npz"):
        with np.load(file) as arrays:
            found[file.name] = {name: arrays[name] for name in arrays.files}
    return found


def measured(folder: str, *words: str) -> dict[str, dict[str, np.ndarray]]:
    outcome = runner.run(parse_run([*words, f"runs={folder}", f"results={folder}/results"]))
    assert not outcome.failed
    return stored(folder)


@pytest.mark.parametrize("vae", ["pool/4x8x8", "dct/16"])
def test_a_vae_without_rounding_has_equal_scores(vae: str) -> None:
    words = [*SMALL, f"vaes=[{vae}]", "keep=1", "keep_latents=true"]
    alone, together = measured("alone", *words), measured("together", *words, "batch_size=3")
    assert len(alone) == 8
    assert alone.keys() == together.keys()
    for name, values in alone.items():
        assert values.keys() == together[name].keys()
        assert all(np.array_equal(value, together[name][key]) for key, value in values.items())


@pytest.mark.parametrize("posterior", ["mode", "sample"])
def test_a_network_has_equal_scores_up_to_its_rounding(posterior: str) -> None:
    words = ["num_frames=9", "size=64", "metrics=[psnr]", "vaes=[wfvae/tiny]", f"posterior={posterior}", "clips=5"]
    words += ["keep_latents=true"]
    alone, together = measured("alone", *words), measured("together", *words, "batch_size=4")
    for name, values in alone.items():
        other = together[name]
        (psnr,) = (key for key in values if key.startswith("psnr."))
        assert abs(float(values[psnr]) - float(other[psnr])) <= 1e-4
        assert np.abs(values["latent"] - other["latent"]).max() < 1e-4


def test_clips_go_through_the_vae_together_once_for_all_protocols(batches: list[int]) -> None:
    words = [*SMALL, "vaes=[pool/4x8x8]", "protocol=default,default-mp4v", "batch_size=3"]
    outcome = runner.run(parse_run(words))
    assert batches == [3, 3, 2]
    assert all("-batch3" in record.setting for record in outcome.records)
    assert outcome.records[0].config["options"]["batch_size"] == 3
    measured("alone", *[*SMALL, "vaes=[pool/4x8x8]", "batch_size=100"])
    assert batches[3:] == [8]


def clips() -> str:
    """Three good clips, and one that cannot be read between them."""
    root = Path("clips")
    root.mkdir()
    for name, clip in zip("acd", sorted(BUNDLE.glob("*.mp4")), strict=False):
        shutil.copy(clip, root / f"{name}.mp4")
    (root / "b.mp4").write_text("this is no video")
    return f"root={root}"


class Thread:
    """A lane without a device."""

    def mark(self) -> None: ...

    def run(self, work: Callable[[], None], mark: object) -> None:
        work()


@pytest.mark.parametrize("overlapped", [False, True])
def test_a_clip_that_cannot_be_read_fails_alone(
    overlapped: bool, batches: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    if overlapped:
        monkeypatch.setattr(runner, "overlap_of", lambda device: Overlap(Thread()))
    words = [*SMALL, "vaes=[pool/4x8x8]", "data=folder", clips(), "batch_size=3"]
    outcome = runner.run(parse_run(words))
    assert [failure.case for _, failure in outcome.failed] == ["b"]
    assert outcome.records[0].scores["psnr"].n == 3
    assert batches == [2, 1]  # a and c, d


class Identity:
    """A VAE without compression, which counts its clips, and fails for some."""

    spec = vaebench.VAESpec("identity", "a", 1, 1, 3, causal=True)

    def __init__(self, fails: Callable[[torch.Tensor], Exception | None] = lambda video: None) -> None:
        self.fails, self.sizes = fails, list[int]()

    def encode(self, video: torch.Tensor) -> vaebench.Posterior:
        self.sizes.append(len(video))
        if error := self.fails(video):
            raise error
        return vaebench.Posterior(video.clone())

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        return latent


def scored(vae: Identity, **given: Any) -> vaebench.Record:
    return vaebench.evaluate(vae, num_frames=5, size=32, metrics=["psnr"], **given)


def test_out_of_memory_in_a_batch_leaves_single_clips() -> None:
    alone = scored(Identity())
    vae = Identity(lambda video: torch.OutOfMemoryError("CUDA out of memory") if len(video) > 1 else None)
    with pytest.warns(UserWarning, match="identity/a: a batch of 4 clips ran out of memory: .* one clip at a time"):
        record = scored(vae, batch_size=4)
    assert vae.sizes == [4] + 8 * [1]
    assert record.scores == alone.scores
    assert not record.failed


def test_out_of_memory_while_a_batch_is_gathered_leaves_single_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, real, calls = scored(Identity()), Reconstruction._frames, list[str]()

    def frames(self: Reconstruction, clip: Clip, prepared: Any) -> torch.Tensor:
        calls.append(clip.id)
        if len(calls) == 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return real(self, clip, prepared)

    monkeypatch.setattr(Reconstruction, "_frames", frames)
    vae = Identity()
    with pytest.warns(UserWarning, match="ran out of memory"):
        record = scored(vae, batch_size=4)
    assert vae.sizes == 8 * [1]
    assert record.scores == alone.scores


def test_a_clip_that_a_vae_cannot_code_fails_alone_by_name() -> None:
    _, bad, *_ = plugins.find("data", "bundle").build(parse_run(["num_frames=5", "size=32"]))
    frames = to_model(bad.load())
    vae = Identity(lambda video: ValueError("dark") if any(torch.equal(clip, frames) for clip in video) else None)
    with pytest.warns(UserWarning, match="a batch of 3 clips .* failed, .* one by one: dark"):
        record = scored(vae, batch_size=3)
    assert [(failure.case, failure.reason) for failure in record.failed] == [(bad.id, "dark")]
    assert record.scores["psnr"].n == 7
    assert vae.sizes == [3, 1, 1, 1, 3, 2]


def test_each_clip_keeps_its_frames_if_the_vae_reuses_its_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    alone, again = scored(Identity()), Event()

    class Reusing(Identity):
        pixels = torch.empty(4, 3, 5, 32, 32)

        def decode(self, latent: torch.Tensor) -> torch.Tensor:
            decoded = self.pixels[: len(latent)].copy_(latent)
            if len(self.sizes) == 2:
                again.set()
            return decoded

    class Late(Thread):
        """The last clip of the first batch is scored after the second batch was decoded."""

        ran = 0

        def run(self, work: Callable[[], None], mark: object) -> None:
            self.ran += 1
            if self.ran == 4:
                assert again.wait(60)
            work()

    monkeypatch.setattr(evaluation, "overlap_of", lambda device: Overlap(Late()))
    assert scored(Reusing(), batch_size=4).scores == alone.scores


def test_ctrl_c_keeps_what_was_computed(monkeypatch: pytest.MonkeyPatch, batches: list[int]) -> None:
    real, calls = Reconstruction.measure, list[str]()

    def measure(self: Reconstruction, vae: Any, case: Case) -> Any:
        calls.append(case.id)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(self, vae, case)

    monkeypatch.setattr(Reconstruction, "measure", measure)
    words = ["run", *SMALL, "vaes=[pool/4x8x8]", "batch_size=4"]
    assert cli.main(words) == 130
    assert len(stored("runs")) == 2
    assert cli.main(words) == 0
    assert batches == [4, 4, 2]


def test_a_clip_of_another_shape_is_alone_and_no_clip_is_computed_twice(batches: list[int]) -> None:
    class Mixed:
        identity: ClassVar[dict[str, str]] = {"name": "mixed"}

        def __iter__(self) -> Iterator[Clip]:
            for k, frames in enumerate((5, 9, 5, 5, 5)):
                video = torch.zeros(3, frames, 32, 32, dtype=torch.uint8)
                yield Clip(f"clip{k}", 1.0, partial(torch.full_like, video, 40 * k))

    record = vaebench.evaluate(vaebench.load("pool/4x8x8"), data=Mixed(), metrics=["psnr"], size=32, batch_size=3)
    assert record.scores["psnr"].n == 5
    assert batches == [2, 1, 2]  # 0 and 2; 1; 3 and 4


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A device of which one clip needs 3 GB, and 21 GB are free."""

    @contextmanager
    def peak_memory(device: torch.device) -> Iterator[Peak]:
        peak = Peak()
        yield peak
        peak.above_bytes = 3 * GB

    monkeypatch.setattr(batching, "peak_memory", peak_memory)
    monkeypatch.setattr(batching, "free_bytes", lambda device: 21 * GB)


@pytest.mark.usefixtures("memory")
def test_auto_takes_what_fits_beside_the_margin(batches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def sizes(wanted: Any, device: torch.device, notes: list[str]) -> BatchSizes:
        return BatchSizes(wanted, torch.device("cuda"), notes)

    monkeypatch.setattr(batching, "BatchSizes", sizes)
    outcome = runner.run(parse_run([*SMALL, "vaes=[pool/4x8x8]", "batch_size=auto"]))
    assert batches == [1, 3, 3, 1]
    assert outcome.notes == ["batch_size=auto: pool/4x8x8 takes 3 clips at a time"]
    assert "-batchauto-" in outcome.records[0].setting
    assert outcome.records[0].config["options"]["batch_size"] == "auto"


@pytest.mark.parametrize(
    ("clip", "free", "expected"), [(3, 21, 3), (30, 21, 1), (0, 21, batching.MOST), (1, 999, batching.MOST)]
)
def test_a_batch_fills_half_of_the_free_memory(clip: int, free: int, expected: int) -> None:
    assert batching.fitting(clip * GB, free * GB) == expected


def test_auto_is_1_on_a_cpu_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", *SMALL, "vaes=[pool/4x8x8]", "batch_size=auto", "device=cpu"]) == 0
    assert "note: batch_size=auto is 1 on a CPU" in capsys.readouterr().err
    (folder,) = Path("runs/results/reconstruction").iterdir()
    assert "batch" not in folder.name


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["batch_size=0"], "batch_size=0 should be a number of clips, 1 or more, or auto"),
        (["batch_size=many"], "batch_size=many should be a number of clips, 1 or more, or auto"),
        (["batch_size=2", "mode=streamed"], "batch_size=2: mode=streamed takes one clip at a time"),
        (["batch_size=2", "--suite", "latent"], "batch_size"),
    ],
)
def test_what_cannot_be_batched_is_refused(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "vaes=[wfvae/tiny]", *words]) == 2
    assert said in capsys.readouterr().err


def test_the_default_is_one_clip_without_a_trace(batches: list[int]) -> None:
    (record,) = runner.run(parse_run([*SMALL, "vaes=[pool/4x8x8]", "batch_size=1"])).records
    assert set(batches) == {1}
    assert "batch" not in record.setting


def test_cases_that_follow_are_those_that_come() -> None:
    frames = torch.zeros(3, 1, 2, 2, dtype=torch.uint8)
    cases = [Case(f"clip{k}", Clip(f"clip{k}", 1.0, lambda: frames)) for k in range(9)]
    with Prefetch() as some:
        decoded = some.decoded(cases)
        first = next(decoded)
        ahead = first.following(6)
        assert [case.id for case in ahead] == [f"clip{k}" for k in range(1, 7)]
        ahead[2].shared["known"] = 3
        rest = list(decoded)
    assert [case.id for case in rest] == [case.id for case in cases[1:]]
    assert [case.shared for case in rest if case.shared] == [{"known": 3}]
    assert rest[-1].following(5) == []


@pytest.mark.gpu
def test_on_a_gpu_a_batch_changes_scores_by_rounding_only() -> None:
    words = ["num_frames=17", "size=64", "metrics=[psnr]", "vaes=[wfvae/tiny]", "device=cuda", "posterior=mode"]
    alone = runner.run(parse_run([*words, "runs=alone", "results=alone/results"]))
    for size in ("4", "auto"):
        outcome = runner.run(parse_run([*words, f"runs={size}", f"results={size}/results", f"batch_size={size}"]))
        assert not outcome.failed
        assert outcome.records[0].scores["psnr"].value == pytest.approx(alone.records[0].scores["psnr"].value, abs=1e-3)
    assert any("batch_size=auto: wfvae/tiny takes" in note for note in outcome.notes)
