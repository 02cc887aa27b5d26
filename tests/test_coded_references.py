"""References that are compressed and hashed once per protocol, in the decoding threads: the pixels of the direct way."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from vaebench import coded_references, protocol, runner
from vaebench.coded_references import CodedReferences
from vaebench.config import parse_run
from vaebench.video import WINDOW, Clip

FRAMES = torch.randint(0, 256, (3, 19, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
CODED = ["default-mp4v", "default-h264", "wfvae-paper", "tokenbench"]


def clip(name: str = "a") -> Clip:
    return Clip(name, 1.0, lambda: FRAMES)


@pytest.mark.parametrize("name", CODED)
def test_windows_of_a_prepared_reference_are_those_of_the_protocol(name: str) -> None:
    chosen = protocol.load(name)
    reference = CodedReferences(chosen).of(clip(), FRAMES)
    given = chosen.through_input_codec(FRAMES[None])
    direct = list(chosen.windows(map(chosen.to_range, given.split(WINDOW, dim=2)), reference=True))
    assert (reference.given is None) == (chosen.input_codec == "none")
    assert reference.given is None or torch.equal(reference.given, given)
    if reference.scored is None:  # `compressed: reconstruction`
        assert chosen.compressed == "reconstruction"
        return
    prepared = list(chosen.windows_of_coded(reference.scored))
    assert [window.shape[2] for window in prepared] == [16, 3]
    assert all(torch.equal(a, b) for a, b in zip(direct, prepared, strict=True))


@pytest.mark.parametrize("name", ["default", "vidtok", "default-h264-one-side"])
def test_a_reference_without_a_codec_is_not_held(name: str) -> None:
    reference = CodedReferences(protocol.load(name)).of(clip(), FRAMES)
    assert (reference.given, reference.scored, reference.nbytes) == (None, None, 0)


def test_the_cache_ends_at_its_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    references = CodedReferences(protocol.load("default-mp4v"))
    monkeypatch.setattr(coded_references, "CODED_BYTES", FRAMES.nbytes)
    for name in "abc":
        references.of(clip(name), FRAMES)
    assert len(references.known) == 1
    assert references.bytes == FRAMES.nbytes


def test_digests_are_equal_for_equal_references_alone() -> None:
    def digest(name: str, frames: torch.Tensor) -> bytes:
        return CodedReferences(protocol.load(name), hashes=True).of(Clip("a", 1.0, lambda: frames), frames).digest

    changed = FRAMES.clone()
    changed[0, 0, 0, 0] ^= 1
    assert digest("default", FRAMES) == digest("default-bfloat16", FRAMES.clone())  # another dtype of the VAE alone
    found = [digest("default", FRAMES), digest("default", changed), digest("default", FRAMES.reshape(3, 19, 8, 32))]
    found += [digest("default-mp4v", FRAMES), digest("default-truncate", FRAMES)]
    assert len(set(found)) == len(found)
    assert CodedReferences(protocol.load("default")).of(clip(), FRAMES).digest == b""


def test_a_gpu_would_give_the_same_references() -> None:
    """CUDA multiplies by the reciprocal of a divisor; no level of 8 bits is near enough to an edge to notice."""
    levels = torch.arange(256, dtype=torch.float32)
    for divisor in (255.0, 127.5):
        reciprocal = torch.tensor(1.0) / divisor
        assert torch.equal((levels / divisor).bfloat16(), (levels * reciprocal).bfloat16())
    on_gpu = (levels * (torch.tensor(1.0) / 127.5)).sub(1)
    for name in ("default-mp4v", "default-truncate"):
        assert torch.equal(protocol.load(name)._stored(on_gpu), levels.to(torch.uint8))


def test_references_are_compressed_once_for_all_vaes_in_decoding_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    real, threads = CodedReferences._compute, list[str]()

    def compute(self: CodedReferences, frames: torch.Tensor) -> Any:
        threads.append(threading.current_thread().name.partition("_")[0])
        return real(self, frames)

    monkeypatch.setattr(CodedReferences, "_compute", compute)
    words = ["vaes=[pool/4x8x8,dct/4]", "num_frames=5", "size=32", "clips=2", "metrics=[psnr]", "protocol=default-mp4v"]
    outcome = runner.run(parse_run(words))
    assert [record.scores["psnr"].n for record in outcome.records] == [2, 2]
    assert threads == ["decode", "decode"]


@pytest.mark.gpu
@pytest.mark.parametrize("name", CODED)
def test_a_gpu_gives_the_same_references(name: str) -> None:
    chosen = protocol.load(name)
    there = chosen.coded_reference(chosen.through_input_codec(FRAMES[None].cuda()))
    here = CodedReferences(chosen, pins=True).of(clip(), FRAMES).scored
    assert (there is None) == (here is None)
    if there is not None and here is not None:
        assert here.is_pinned()
        assert torch.equal(there.cpu(), here)
