"""Several protocols in one run: a record for each, equal to those of single runs, from one reconstruction where they share it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import vaebench
from adapters import pool
from vaebench import cli, protocol, records
from vaebench.video_io import file_source

SMALL = ["num_frames=5", "size=32", "clips=2", "metrics=[psnr,ssim]", "vaes=pool/4x8x8"]
SHARED = ("default", "default-mp4v", "default-float")  # one reconstruction serves all
pytestmark = pytest.mark.usefixtures("elsewhere")


def run(*words: str) -> int:
    return cli.main(["run", *SMALL, *words])


def scores(folder: str = "runs/results") -> dict[str, dict[str, float | None]]:
    """Protocol -> metric -> value, of the records in a folder."""
    found = records.read_all(Path(folder))
    return {r.config["protocol"]: {name: score.value for name, score in r.scores.items()} for r in found}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """How often a clip is encoded, and how often one is read."""
    counts = {"encode": 0, "read": 0}
    encode, read_row = pool.Pool.encode, file_source.read_row

    def counting_encode(self, video):
        counts["encode"] += 1
        return encode(self, video)

    def counting_read(*arguments):
        counts["read"] += 1
        return read_row(*arguments)

    monkeypatch.setattr(pool.Pool, "encode", counting_encode)
    monkeypatch.setattr(file_source, "read_row", counting_read)
    return counts


def test_each_protocol_has_the_record_of_its_single_run():
    chosen = [*SHARED, "default-bilinear", "wfvae-paper"]
    assert run(f"protocol={','.join(chosen)}") == 0
    together = scores()
    for name in chosen:
        assert run(f"protocol={name}", "runs=single", "results=single/results") == 0
    assert scores("single/results") == together
    assert set(together) == set(chosen)
    assert len({json.dumps(values) for values in together.values()}) == len(chosen)  # no protocol got another's pixels


def test_protocols_that_share_reconstructions_decode_and_encode_each_clip_once(calls: dict[str, int]):
    assert run(f"protocol={','.join(SHARED)}") == 0
    assert calls == {"encode": 2, "read": 2}


def test_protocols_that_differ_before_the_vae_say_why_they_do_not_share(
    calls: dict[str, int], capsys: pytest.CaptureFixture[str]
):
    assert run("protocol=default,default-mp4v,default-bilinear,default-sample") == 0
    assert calls == {"encode": 6, "read": 4}  # the sample of the same resize reads no file again
    said = capsys.readouterr().err
    assert re.search(r"default-bilinear: .* not shared with default: they differ in resize\n", said)
    assert re.search(r"default-sample: .* they differ in posterior, seed\n", said)


def test_a_run_with_one_more_protocol_resumes_those_that_are_done(calls: dict[str, int]):
    assert run("protocol=default") == 0
    assert calls["encode"] == 2
    assert run("protocol=default,default-mp4v") == 0
    assert calls["encode"] == 4
    assert run("protocol=default-mp4v,default") == 0
    assert calls["encode"] == 4


def test_a_stopped_run_resumes_at_the_clip_where_it_stopped(monkeypatch: pytest.MonkeyPatch, calls: dict[str, int]):
    windows = protocol.Protocol.windows

    def stopping(self, pieces, *, reference=False):
        if calls["encode"] == 2 and self.name == "default-mp4v":
            raise KeyboardInterrupt
        return windows(self, pieces, reference=reference)

    with monkeypatch.context() as patched:
        patched.setattr(protocol.Protocol, "windows", stopping)
        assert run("protocol=default,default-mp4v") == 130
    assert run("protocol=default,default-mp4v") == 0
    assert calls["encode"] == 3  # of the second clip, for the protocol that was stopped
    together = scores()
    assert run("protocol=default,default-mp4v", "runs=again", "results=again/results") == 0
    assert scores("again/results") == together


def test_the_record_of_a_protocol_repeats_that_protocol_alone(capsys: pytest.CaptureFixture[str]):
    assert run("protocol=default,default-mp4v") == 0
    (file,) = Path("runs/results/reconstruction").glob("*default-mp4v*/*.json")
    capsys.readouterr()
    assert cli.main(["run", "--config", str(file), "results=again", "--format", "json"]) == 0
    assert [one["setting"] for one in json.loads(capsys.readouterr().out)] == [file.parent.name]


def test_a_clip_that_fails_is_failed_under_every_protocol(tmp_path: Path, video: Path):
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "good.mp4").write_bytes(video.read_bytes())
    (tmp_path / "clips" / "bad.mp4").write_text("no video")
    words = ["data=folder", "root=clips", "clips=null", "protocol=default,default-mp4v"]
    assert run(*words) == 1
    for record in records.read_all(Path("runs/results")):
        assert [failure.file for failure in record.failed] == ["bad.mp4"]
        assert record.scores["psnr"].n == 1


def test_an_unknown_protocol_among_several_is_refused_before_any_work(capsys: pytest.CaptureFixture[str]):
    assert run("protocol=default,wfvae") == 2
    assert "did you mean 'wfvae-paper'" in capsys.readouterr().err
    assert not Path("runs").exists()


def test_the_list_describes_every_protocol(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["list", "protocols"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == protocol.names()
    assert "github.com/NVlabs/TokenBench" in next(line for line in lines if line.startswith("tokenbench"))
    assert cli.main(["list"]) == 0
    assert "protocols: default, tokenbench" in capsys.readouterr().out


def test_a_suite_without_shared_reconstructions_measures_each_protocol(capsys: pytest.CaptureFixture[str]):
    words = ["num_frames=5", "size=16", "clips=1", "metrics=psnr", "vaes=pool/4x8x8", "independent=4"]
    assert cli.main(["run", "--suite", "blockwise", *words, "protocol=default,default-mp4v"]) == 0
    assert {record.config["protocol"] for record in records.read_all(Path("runs/results"))} == {
        "default",
        "default-mp4v",
    }
    assert "default-mp4v: " in (said := capsys.readouterr().err)
    assert "its suite measures each protocol on its own" in said


def test_evaluate_takes_one_protocol_and_says_so():
    with pytest.raises(ValueError, match="names several protocols, which only `vaebench run` evaluates in one call"):
        vaebench.evaluate(vaebench.load("pool/4x8x8"), protocol="default,vidtok", metrics=["psnr"])


def test_clips_of_another_shape_than_the_published_ones_are_noted(capsys: pytest.CaptureFixture[str]):
    assert run("protocol=vidtok") == 0
    note = "protocol vidtok: published numbers are of clips 17x256 (frames x size), these are of 5x32"
    assert note in capsys.readouterr().err
