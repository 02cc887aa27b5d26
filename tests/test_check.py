"""`vaebench check` finds what it is there to find: each fault is planted, and named."""

from dataclasses import replace
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F

import adapters
from vaebench import check, plugins
from vaebench.check import modes
from vaebench.check.subject import pattern
from vaebench.vae import FrameRule, Posterior, VAESpec

SPEC = VAESpec("planted", "a", 4, 2, 3, causal=True, frames=FrameRule(4, 1), size_multiple=2)


class Planted:
    """A small causal VAE that is honest, or has one fault."""

    def __init__(self, fault: str) -> None:
        self.fault = fault
        self.spec = replace(SPEC, modes=("whole", "tiled"), lossless_modes=("tiled",))
        self.calls = 0

    def _smooth(self, video: torch.Tensor) -> torch.Tensor:
        """Each frame is averaged with the two before it: causal, and longer than a frame."""
        return F.avg_pool3d(F.pad(video, (0, 0, 0, 0, 2, 0), mode="replicate"), (3, 1, 1), stride=1)

    def encode(self, video: torch.Tensor) -> Posterior:
        self.calls += 1
        if self.fault == "wants 0..1":
            video = video.clamp(0, 1)
        if self.fault == "hidden chunks":
            video = torch.cat([self._smooth(piece) for piece in video.split(8, dim=2)], dim=2)
        elif self.fault == "looks ahead":
            video = self._smooth(video.flip(2)).flip(2)
        else:
            video = self._smooth(video)
        latent = F.avg_pool3d(video[:, :, ::4], (1, 2, 2))
        if self.fault == "random":
            latent = latent + self.calls * 1e-3
        if self.fault == "batch":
            latent = latent - latent.mean(dim=0, keepdim=True) * (len(latent) > 1)
        return Posterior(latent)

    def decode(self, latent: torch.Tensor) -> torch.Tensor:
        video = latent.repeat_interleave(4, 2)[:, :, 3:]
        if self.fault == "drops a frame":
            video = video[:, :, 1:]
        return video.repeat_interleave(2, -1).repeat_interleave(2, -2)


def _verdicts(monkeypatch: pytest.MonkeyPatch, fault: str) -> dict[str, check.Verdict]:
    def load(spec, *, weights="", device="cpu", dtype=None, mode="whole"):
        lossy = fault == "lossy" and mode == "tiled"
        vae = Planted(fault)
        if lossy:
            vae.decode = lambda latent: Planted.decode(vae, latent) * 1.01
        return vae

    module = ModuleType("planted")
    module.VARIANTS = {"a": Planted("").spec}
    module.load = load
    real = plugins.find
    monkeypatch.setattr(plugins, "find", lambda kind, name: module if name == "planted" else real(kind, name))
    config = check.CheckConfig(num_frames=33, size=16)
    return {verdict.test: verdict for verdict in check.verdicts(adapters.resolve("planted/a"), config)}


FAULTS = {
    "wants 0..1": "value range",
    "hidden chunks": "hidden chunks",
    "looks ahead": "causality",
    "random": "determinism",
    "batch": "batch",
    "drops a frame": "shapes",
    "lossy": "block wise against whole",
}


def test_an_honest_vae_keeps_the_contract(monkeypatch: pytest.MonkeyPatch):
    found = _verdicts(monkeypatch, "")
    assert [verdict.test for verdict in found.values() if verdict.passed is False] == []


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_its_own_test(fault: str, monkeypatch: pytest.MonkeyPatch):
    assert _verdicts(monkeypatch, fault)[FAULTS[fault]].passed is False


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("dtype=float33", "dtype='float33' is not one of float32, bfloat16, float16"),
        ("num_frames=0", "num_frames=0 should be at least 1"),
        ("size=-8", "size=-8 should be at least 1"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_runs(word: str, said: str):
    with pytest.raises(ValueError, match=said):
        check.check("pool/4x8x8", [word])


def test_float32_is_checked_in_float32(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    seen = []

    def look(subject):
        seen.append((products.allow_tf32, convolutions.allow_tf32))
        return True, "seen"

    monkeypatch.setattr(check, "TESTS", (look,))
    products.allow_tf32 = convolutions.allow_tf32 = True
    try:
        assert check.check("pool/4x8x8", ["num_frames=4", "size=16"]) == 0
    finally:
        products.allow_tf32, convolutions.allow_tf32 = before
    assert seen == [(False, False)]
    assert "meets the contract" in capsys.readouterr().err


def test_a_verdict_is_given_as_soon_as_it_is_known(monkeypatch: pytest.MonkeyPatch):
    ran = []

    def first(subject):
        ran.append("first")
        return True, ""

    def second(subject):
        ran.append("second")
        return True, ""

    monkeypatch.setattr(check, "TESTS", (first, second))
    found = check.verdicts(adapters.resolve("pool/4x8x8"), check.CheckConfig(num_frames=4, size=16))
    assert next(found).test == "first"
    assert ran == ["first"]


def test_a_wrong_claim_of_causality_is_found_both_ways():
    pool = adapters.load("pool/4x8x8")
    subject = check.Subject(adapters.resolve("pool/4x8x8"), pool, pattern(16, 16), check.CheckConfig())
    assert check.causality(subject)[0] is True
    pool.spec = replace(pool.spec, causal=True)
    assert check.causality(subject)[0] is False


def test_a_changed_weight_moves_the_canary(monkeypatch: pytest.MonkeyPatch, tmp_path):
    pool = adapters.load("pool/4x8x8")
    subject = check.Subject(adapters.resolve("pool/4x8x8"), pool, pattern(16, 16), check.CheckConfig())
    assert check.canary(subject)[0] in (True, None)
    latent, frames = modes.probes(subject)
    file = tmp_path / "canaries.json"
    file.write_text(
        f'{{"pool/4x8x8": {{"weights": "none", "latent": {(latent * 1.01).tolist()}, "frames": {frames.tolist()}}}}}'
    )
    monkeypatch.setattr(modes, "CANARIES", file)
    assert check.canary(subject)[0] is False
