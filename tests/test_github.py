"""Weights on GitHub: a source pins commit and bytes, two files are one network, another version is not the release."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

import adapters
from adapters import taesd
from vaebench import weight_files, weights
from vaebench.weights import fetch as downloads
from vaebench.weights import github
from vaebench.weights.verify import checksum

COMMIT = "5cccb12dc72074a4be35680c3b108548a7c69978"
CONTENT = {"a_encoder.pth": b"encoder", "a_decoder.pth": b"decoder"}
pytestmark = pytest.mark.usefixtures("home")


def blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


SOURCE = f"github:owner/repo@{COMMIT}:" + "+".join(f"{name}#{blob(content)}" for name, content in CONTENT.items())


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What the address of each file answers."""
    answers = {
        f"https://raw.githubusercontent.com/owner/repo/{COMMIT}/{name}": content for name, content in CONTENT.items()
    }

    def download(entry: weights.WeightFile, name: str, part: Path) -> None:
        part.write_bytes(answers[entry.url])
        if checksum(part, entry.checksum) != entry.checksum:
            raise ConnectionError(name)

    monkeypatch.setattr(downloads, "_download", download)
    return answers


@pytest.mark.parametrize(
    "source",
    [
        "github:owner/repo@main:a.pth#" + "0" * 40,
        f"github:owner/repo@{COMMIT}:a.pth",
        f"github:owner/repo@{COMMIT}:a.pth#0123",
        f"github:owner/repo@{COMMIT}:a.pth#{'0' * 40}+b.pth",
        f"github:repo@{COMMIT}:a.pth#{'0' * 40}",
    ],
)
def test_a_source_that_does_not_pin_its_bytes_is_refused(source: str):
    with pytest.raises(ValueError, match="expected github:owner/repo@commit:path#id"):
        github.parse(source)


def test_all_files_of_a_network_are_fetched_and_found_by_repository_or_by_name(site, shelf: Path):
    with pytest.raises(
        weights.Unavailable, match=r"a_encoder\.pth and a_decoder\.pth of github\.com/owner/repo: not here; run"
    ):
        weights.find_all(SOURCE)
    assert downloads.fetch(SOURCE) == shelf / "owner--repo"
    assert [file.read_bytes() for file in weights.released(SOURCE)] == list(CONTENT.values())
    for file in weights.find_all(SOURCE):
        file.rename(shelf / file.name)
    assert weights.released(SOURCE) == [shelf / name for name in CONTENT]
    assert weights.find_all(SOURCE, str(shelf)) == [shelf / name for name in CONTENT]
    assert weights.find_all(SOURCE, str(shelf / "a_encoder.pth")) == [shelf / "a_encoder.pth"]


def test_other_bytes_are_neither_kept_nor_taken_for_the_release(site, shelf: Path):
    url = next(iter(site))
    site[url] = b"newer"
    with pytest.raises(ConnectionError):
        downloads.fetch(SOURCE)
    assert list((shelf / "owner--repo").iterdir()) == []
    for name in CONTENT:
        (shelf / name).write_bytes(b"newer")
    with pytest.raises(ValueError, match=r"a_encoder\.pth is not a_encoder\.pth at commit 5cccb12 of github"):
        weights.released(SOURCE)
    assert weights.released(SOURCE, str(shelf)) == [shelf / name for name in CONTENT]  # the user's own choice


def test_verify_checks_both_files(shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    file = weight_files.File("taesd/mine", SOURCE, "VAE", "MIT")
    monkeypatch.setattr(weight_files, "named", lambda name: file)
    shelf.mkdir(exist_ok=True)
    for name, content in CONTENT.items():
        (shelf / name).write_bytes(content)
    assert weight_files.verify_command(["taesd/mine"]) == 0
    assert "taesd/mine: verified, git" in capsys.readouterr().out
    (shelf / "a_decoder.pth").write_bytes(b"decodes")
    assert weight_files.verify_command(["taesd/mine"]) == 1
    assert "a_decoder.pth is not a_decoder.pth at commit 5cccb12" in capsys.readouterr().out


def test_a_variant_on_github_is_fetched_by_its_name():
    source = taesd.VARIANTS["flux2"].source
    assert weight_files.named("taesd/flux2").source == weight_files.named(source).source == source
    assert "run `vaebench weights fetch taesd/flux2`" in adapters.resolve("taesd/flux2").unavailable


def test_taesd_reads_its_two_files_or_one_with_both_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    video = torch.rand(1, 3, 2, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    vae = taesd.tiny()
    model, expected = vae.model, vae.encode(video).mode()
    monkeypatch.setitem(vars(taesd.OWN), "config", lambda variant: SMALL)
    halves = [getattr(model, half).state_dict() for half in ("encoder", "decoder")]
    for half, state in zip(("encoder", "decoder"), halves, strict=True):
        torch.save(state, tmp_path / f"taesd_{half}.pth")
    assert torch.equal(adapters.load("taesd/sd", weights=str(tmp_path)).encode(video).mode(), expected)
    digest = adapters.resolve("taesd/sd", str(tmp_path)).weights
    assert digest != weights.digest(tmp_path / "taesd_encoder.pth")
    torch.save({key: value + 1 for key, value in halves[1].items()}, tmp_path / "taesd_decoder.pth")
    assert adapters.resolve("taesd/sd", str(tmp_path)).weights != digest  # of both files
    one = tmp_path / "one"
    one.mkdir()
    torch.save(model.state_dict(), one / "mine.pth")
    for vae in (adapters.load("taesd/sd", weights=str(one / "mine.pth")), adapters.load(f"taesd:{one}")):
        assert torch.equal(vae.encode(video).mode(), expected)
    (tmp_path / "taesd_decoder.pth").unlink()
    with pytest.raises(ValueError, match=r"taesd_encoder\.pth .* missing"):
        adapters.load("taesd/sd", weights=str(tmp_path / "taesd_encoder.pth"))


SMALL = taesd.replace(
    taesd.config_of("sd"), widths=(8, 8, 8, 8), encoder_width=8
)  # the network of tiny(), as if it were released


def test_a_user_checkpoint_is_recognised_by_its_tensors():
    from adapters import taehv
    from adapters._nets.taehv import TAEHV
    from adapters._nets.taesd import TAESD

    with torch.device("meta"):
        for variant in ("sd", "sd3", "flux2", "sana"):
            assert taesd.OWN.nearest(TAESD(taesd.config_of(variant)).state_dict()) == variant
        for variant in ("taew2_1", "taehv1_5_super", "taew2_2", "taeh3", "taeltx_2", "taeltx2_3_wide"):
            assert taehv.OWN.nearest(TAEHV(taehv.config_of(variant)).state_dict()) == variant
