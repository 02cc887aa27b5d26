"""Which clips a run saves frames of: the first, those that are named, and the worst ones, also when a finished run is extended."""

from __future__ import annotations

from pathlib import Path

import pytest

import vaebench
from vaebench import cli, evaluation, keep, kept_video, records

IDS = ["bundle/a", "bundle/b", "other/b", "other/c"]
SMALL = ["vaes=dct/4,pool/4x8x8", "num_frames=5", "size=32", "clips=4", "metrics=psnr,flicker"]


@pytest.mark.parametrize(
    ("words", "chosen"),
    [
        ([], set()),
        (["0"], set()),
        (["2"], {"bundle/a", "bundle/b"}),
        (["9"], set(IDS)),
        (["other/b"], {"other/b"}),
        (["a", "c"], {"bundle/a", "other/c"}),  # the last part of an id
        (["1", "c"], {"bundle/a", "other/c"}),
        (["worst:2"], set()),  # known after the run
    ],
)
def test_clips_are_chosen_by_number_and_by_name(words: list[str], chosen: set[str]):
    assert keep.parse(words).chosen(IDS) == chosen


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["b"], r"keep=b: several clips have this name: bundle/b, other/b"),
        (["bundle/d"], r"keep=bundle/d: no clip has this id; did you mean 'bundle/"),
        (["-1"], "keep=-1 should be a number of clips, ids of clips, or worst:N"),
        (["worst:"], "keep=worst: should be"),
        (["worst:x"], "keep=worst:x should be"),
    ],
)
def test_a_clip_that_cannot_be_chosen_is_named(words: list[str], said: str):
    with pytest.raises(ValueError, match=said):
        keep.parse(words).chosen(IDS)


def test_the_worst_clips_have_the_lowest_psnr_and_the_highest_flicker():
    scores = {"a": 30.0, "b": 20.0, "c": 25.0, "d": 20.0}
    assert keep.parse(["worst:3"]).worst_of(scores, "higher") == ["b", "d", "c"]
    assert keep.parse(["worst:1"]).worst_of(scores, "lower") == ["a"]
    assert keep.parse(["3"]).worst_of(scores, "lower") == []


def pictures() -> dict[str, set[str]]:
    """VAE -> the clips with saved frames, by the names of their files."""
    return {
        folder.stem: {file.name.rpartition("-")[0] for file in folder.iterdir()}
        for folder in Path("runs/results").rglob("*.frames")
    }


def test_a_finished_run_is_extended_by_the_frames_of_its_worst_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", *SMALL]) == 0
    assert pictures() == {}
    before = {made.name: made.scores for made in records.read_all(Path("runs/results"))}
    assert cli.main(["run", *SMALL, "keep=worst:2"]) == 0
    worst = {}
    for made in records.read_all(Path("runs/results")):
        clips = records.read_clips(Path("runs/results"), made)
        psnr = {clip: scores["psnr"] for clip, scores in clips.items()}
        worst[made.name.replace("/", "-")] = {clip.replace("/", "_") for clip in sorted(psnr, key=psnr.__getitem__)[:2]}
        assert made.scores == before[made.name]
    assert pictures() == worst
    assert len(list(Path("runs").glob("*/*.npz"))) == 8  # nothing was measured under another key


def test_a_clip_by_name_is_saved_and_an_unknown_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", *SMALL, "keep=hangar"]) == 2
    assert "keep=hangar: no clip has this id" in capsys.readouterr().err
    assert cli.main(["run", *SMALL, "keep=cars_overhead"]) == 0
    assert set.union(*pictures().values()) == {"bundle_cars_overhead"}


def test_the_worst_clips_of_a_vae_object_have_pictures_too():
    given = {"num_frames": 5, "size": 32, "clips": 3, "metrics": ["psnr"]}
    result = evaluation.evaluation(vaebench.load("dct/4"), keep=["worst:1"], **given)
    worst = min(result.clips, key=lambda clip: result.clips[clip]["psnr"])
    assert list(result.pictures) == [worst]
    assert result.pictures[worst].shape == (2, 3, 32, 32, 3)
    counted = evaluation.evaluation(vaebench.load("dct/4"), keep=2, **given)  # a number, as from Python
    assert list(counted.pictures) == list(counted.clips)[:2]


def test_the_worst_clips_need_a_metric_of_single_clips(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "whole.py").write_text(
        "from vaebench.metric import Metric\n"
        "class Whole(Metric):\n"
        "    per_clip = False\n"
        "    def measure(self, reference, reconstruction):\n"
        "        return (reference - reconstruction).mean(dim=(1, 2, 3, 4))\n"
        "    def reduce(self, statistics):\n"
        "        return float(statistics.max())\n"
        "def build(device):\n"
        "    return Whole()\n"
    )
    with pytest.raises(ValueError, match=r"keep=worst:1 needs a metric that scores single clips"):
        vaebench.evaluate(
            vaebench.load("dct/4"), metrics=[str(tmp_path / "whole.py")], keep=["worst:1"], clips=1, size=32
        )


def test_videos_of_the_worst_clips_are_saved_apart_from_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", *SMALL, "vaes=dct/4", "keep=worst:1", "keep_video=worst:2"]) == 0
    made = next(records.read_all(Path("runs/results")))
    psnr = {clip: scores["psnr"] for clip, scores in records.read_clips(Path("runs/results"), made).items()}
    worst = sorted(psnr, key=psnr.__getitem__)
    assert set(kept_video.read_all(Path("runs/results"), made)) == set(worst[:2])
    assert pictures()["dct-4"] == {worst[0].replace("/", "_")}


def test_the_worst_clips_are_found_across_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for shard in ("0/2", "1/2"):
        assert cli.main(["run", *SMALL, "vaes=dct/4", "keep=worst:1", f"shard={shard}"]) == 0
    made = next(records.read_all(Path("runs/results")))
    psnr = {clip: scores["psnr"] for clip, scores in records.read_clips(Path("runs/results"), made).items()}
    assert len(psnr) == 4
    assert pictures()["dct-4"] == {min(psnr, key=psnr.__getitem__).replace("/", "_")}
