"""`vaebench weights fetch` and `verify`, and `fetch=true` of a run."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path

import pytest

from tests.weight_server import CONTENT, HUB, SHA, Hub, enter, left_in
from vaebench import cli, weights
from vaebench.weights import fetch, github, registry

pytestmark = pytest.mark.usefixtures("home")


def test_fetch_states_sizes_and_licences_before_it_downloads(
    site: str, hub: Hub, shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, f"{site}/net.pth", license="MIT")
    assert cli.main(["weights", "fetch", "net", HUB]) == 0
    out, err = capsys.readouterr()
    first, second, *rest = err.splitlines()
    assert first == "net: 1.3 MB, licence MIT"
    assert second == f"{HUB}: 1.3 MB, licence see its repository"
    assert any("100%" in line for line in rest)
    assert out.splitlines() == [str(shelf / "net.pth"), str(weights.find(HUB))]
    assert cli.main(["weights", "fetch", "net"]) == 0
    assert "net: already on this machine" in capsys.readouterr().err


def test_fetch_of_all_metrics_names_those_without_a_checksum_and_goes_on_after_a_failure(
    site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    net = enter(monkeypatch, f"{site}/net.pth")
    gone = dataclasses.replace(net, file="gone.pth", url=f"{site}/missing")
    unsaid = dataclasses.replace(net, file="unsaid.pth", sha256="")
    for name, entry in {"a": gone, "b": unsaid, "c": net}.items():
        monkeypatch.setitem(registry.FILES, name, entry)
    del registry.FILES["net"]
    assert cli.main(["weights", "fetch", "--all-metrics"]) == 1
    err = capsys.readouterr().err
    assert "b: not downloaded, since no checksum is published" in err
    assert "failed: a: gone.pth: download failed from all URLs" in err
    assert left_in(shelf) == ["net.pth"]


@pytest.mark.parametrize("words", [["fetch"], ["fetch", "net", "--all-metrics"], ["verify", "--all-metrics"]])
def test_fetch_takes_names_or_all_metrics(words: list[str]) -> None:
    assert cli.main(["weights", *words]) == 2


def test_verify_rereads_what_is_on_disk(
    hub: Hub, shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, "https://nowhere.invalid/net.pth")
    shelf.mkdir()
    (shelf / "net.pth").write_bytes(CONTENT)
    file = fetch.fetch(HUB)
    hub.requests.clear()
    assert cli.main(["weights", "verify", "net", HUB]) == 0
    assert hub.requests == []  # the cache knows the published digest
    assert [line.split(": verified")[0] for line in capsys.readouterr().out.splitlines()] == ["net", HUB]
    for damaged in (shelf / "net.pth", file.resolve()):
        damaged.write_bytes(CONTENT[:-1] + b"!")
    assert cli.main(["weights", "verify", "net", HUB]) == 1
    for line in capsys.readouterr().out.splitlines():
        assert (
            f"damaged, or not the published file: its sha256 is {hashlib.sha256(CONTENT[:-1] + b'!').hexdigest()}"
            in line
        )
        assert "; delete /" in line


def test_verify_asks_the_hub_about_a_copy_in_a_folder_of_the_users(
    hub: Hub, shelf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = shelf / "org--repo/vae/model.safetensors"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(CONTENT)
    assert cli.main(["weights", "verify", HUB]) == 0
    copy.write_bytes(CONTENT[:-1])
    assert cli.main(["weights", "verify", HUB]) == 1
    assert f"its size is {len(CONTENT) - 1} bytes, expected {len(CONTENT)}" in capsys.readouterr().out
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert cli.main(["weights", "verify", HUB]) == 1
    assert "not verified: org/repo@0123abc could not be read from the Hub" in capsys.readouterr().out


def test_verify_never_passes_a_file_that_is_missing_or_has_no_checksum(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, "https://nowhere.invalid/net.pth", sha256="")
    assert cli.main(["weights", "verify", "net"]) == 1
    assert "net: not on this machine" in capsys.readouterr().out
    shelf.mkdir()
    (shelf / "net.pth").write_bytes(CONTENT)
    assert cli.main(["weights", "verify"]) == 1
    assert "net: not verified: no checksum is published" in capsys.readouterr().out


def test_a_run_fetches_what_it_lacks_only_when_asked(
    site: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(
        registry.FILES, "alexnet", dataclasses.replace(registry.FILES["alexnet"], url=f"{site}/net.pth", sha256=SHA)
    )
    words = ["run", "vaes=dct/4", "clips=1", "num_frames=5", "size=32", "results=R", "runs=S", "--format", "json"]
    assert cli.main([*words, "metrics=psnr,lpips"]) == 0
    assert cli.main([*words, "metrics=psnr", "fetch=true"]) == 0  # which reads no weights
    assert not shelf.exists()
    assert "fetch" not in json.loads(next(Path("R").rglob("*.json")).read_text())["config"]
    capsys.readouterr()
    assert cli.main([*words, "metrics=psnr,lpips", "fetch=true"]) == 2  # what the test serves is no network
    assert left_in(shelf) == [registry.FILES["alexnet"].file]
    out, err = capsys.readouterr()
    assert out == ""  # no path between the lines of a table
    assert "alexnet: 1.3 MB, licence BSD-3-Clause (torchvision)" in err
    assert "cannot be read as weights" in err


def test_a_run_does_not_start_without_what_it_should_fetch(
    site: str, shelf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    enter(monkeypatch, f"{site}/missing", used_by="lpips")
    assert cli.main(["run", "vaes=dct/4", "metrics=psnr,lpips", "fetch=true", "results=R", "runs=S"]) == 2
    assert "1 of 1 weight files could not be downloaded, and no case was run" in capsys.readouterr().err
    assert not Path("R").exists()


def test_a_run_fetches_the_vaes_that_it_names(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "vaes=wan/2.1", "metrics=psnr", "fetch=true", "results=R", "runs=S"]
    assert cli.main(words) == 2
    assert "failed: wan/2.1: " in capsys.readouterr().err
    assert any("/resolve/" in request and "HEAD" in request for request in hub.requests)


def test_a_run_fetches_both_vaes_of_a_cross(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(github.GitHubFile, "url", property(lambda file: f"{hub.url}/{file.path}"))
    words = ["run", "vaes=sd/ft-mse+taesd/sd", "metrics=psnr", "fetch=true", "results=R", "runs=S"]
    assert cli.main(words) == 2
    err = capsys.readouterr().err
    assert "failed: sd/ft-mse: " in err
    assert "failed: taesd/sd: " in err
    assert "2 of 2 weight files could not be downloaded" in err


def test_weights_that_several_vaes_share_are_fetched_once_under_the_name_that_was_asked_for(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ["run", "vaes=wan/svi,wan/2.1", "metrics=psnr", "fetch=true", "results=R", "runs=S"]
    assert cli.main(words) == 2
    failed = [line for line in capsys.readouterr().err.splitlines() if line.startswith("failed: ")]
    assert [line.split(": ")[1] for line in failed] == ["wan/svi"]


def test_a_run_that_fetches_scores_the_others_if_a_checkpoint_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    index = Path("mine/model.safetensors.index.json")
    index.parent.mkdir()
    index.write_text("{")
    vaes = "vaes=wan:mine,wan:nowhere,pool/1x8x8"
    words = ["run", vaes, "metrics=psnr", "fetch=true", "clips=1", "num_frames=5", "size=32", "results=R", "runs=S"]
    assert cli.main(words) == 1
    out, err = capsys.readouterr()
    assert "pool/1x8x8" in out
    assert f"failed: wan:mine: {index} should list the files of the weights" in err
    assert "not ready: wan:nowhere: nowhere does not exist" in err


def test_a_suite_that_reads_no_weights_fetches_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--suite", "efficiency", "vaes=wan/2.1", "fetch=true"]) == 2
    assert "the efficiency suite uses no weight files: remove fetch=true" in capsys.readouterr().err
