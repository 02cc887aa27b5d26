"""Clips are decoded by other threads while the VAE works, and once for all VAEs."""

import threading

import pytest
import torch

from tests.runs import SMALL, run
from vaebench.config import parse_run
from vaebench.prefetch import Prefetch

pytestmark = pytest.mark.usefixtures("elsewhere")


def test_clips_are_decoded_ahead_of_the_device(monkeypatch: pytest.MonkeyPatch):
    """While the first clip is being measured, the next one is decoded by another thread."""
    from vaebench.suites.reconstruction import Reconstruction

    decoding = threading.Event()
    seen: list[str] = []
    real = Prefetch._load

    def load(self, case):
        frames = real(self, case)
        seen.append(threading.current_thread().name)
        if len(seen) >= 2:
            decoding.set()
        return frames

    monkeypatch.setattr(Prefetch, "_load", load)
    measure = Reconstruction.measure

    def patient(self, vae, case):
        assert decoding.wait(20), "the second clip was not decoded while the first was measured"
        return measure(self, vae, case)

    monkeypatch.setattr(Reconstruction, "measure", patient)
    assert run("vaes=[pool/4x8x8]", "clips=3") == 0
    assert all(name.startswith("decode") for name in seen)


def test_decoding_ahead_leaves_the_cores_to_the_model(monkeypatch: pytest.MonkeyPatch):
    """A decoding thread computes alone; the model, and threads born after the run, keep the number that was set."""
    seen: list[int] = []
    real = Prefetch._load
    monkeypatch.setattr(Prefetch, "_load", lambda *it: (seen.append(torch.get_num_threads()), real(*it))[1])
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert run("vaes=[pool/4x8x8]", "clips=2") == 0
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (seen, later, torch.get_num_threads()) == ([1, 1], [2], 2)
    finally:
        torch.set_num_threads(before)


def test_decoded_clips_are_kept_for_the_next_vae(monkeypatch: pytest.MonkeyPatch):
    from vaebench.data import bundle

    source = bundle.build(parse_run(SMALL))
    calls: list[str] = []
    real = type(source).__iter__

    def counted(self):
        from dataclasses import replace

        for clip in real(self):
            yield replace(clip, load=lambda clip=clip: (calls.append(clip.id), clip.load())[1])

    monkeypatch.setattr(type(source), "__iter__", counted)
    assert run("vaes=[pool/4x8x8,dct/4]") == 0
    assert len(calls) == 8
