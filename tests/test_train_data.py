"""Training clips: the same for the same index, from files and shards alike, and not stopped by files that are broken."""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from tests.test_shards import DAMAGE, damage
from vaebench.training.clips import TrainingClips, TrainingData
from vaebench.video_io import tar
from wfvae.batches import batches

SIZE, FRAMES = 48, 24
QUICK = TrainingData(num_frames=5, size=32)


def write(path: Path, shade: int, frames: int = FRAMES) -> None:
    """A video whose frame i is grey `shade + 5 i` on the left, and whose right half is dark."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=24)
        stream.width = stream.height = SIZE
        stream.pix_fmt = "bgr0"
        for i in range(frames):
            picture = np.zeros((SIZE, SIZE, 3), np.uint8)
            picture[:, : SIZE // 2] = shade + 5 * i
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "videos"
    for i in range(3):
        write(folder / f"sub{i % 2}" / f"v{i}.mkv", 20 * i)
    return folder


def clips(root: Path, tmp_path: Path, **changes: object) -> TrainingClips:
    return TrainingClips(replace(QUICK, root=str(root), **changes), tmp_path / "files.csv")


def levels(video: torch.Tensor) -> list[int]:
    """The grey of the left half of each frame, 0..255."""
    return [round(float(v)) for v in (video[0, :, 4, 4] + 1) * 127.5]


def test_an_index_always_gives_the_same_clip_and_others_differ(root: Path, tmp_path: Path) -> None:
    first, again = clips(root, tmp_path), clips(root, tmp_path)
    assert all(torch.equal(first[i].video, again[i].video) for i in (5, 3, 5))
    assert len({tuple(levels(first[i].video)) for i in range(20)}) > 5
    assert first[0].video.shape == (3, 5, 32, 32)
    assert first[0].video.dtype == torch.float32


def test_another_seed_draws_other_clips(root: Path, tmp_path: Path) -> None:
    config = replace(QUICK, root=str(root))
    drawn = [[levels(TrainingClips(config, tmp_path / "f.csv", seed)[i].video) for i in range(8)] for seed in (0, 1)]
    assert drawn[0] != drawn[1]


def test_frames_are_consecutive_and_strides_even(root: Path, tmp_path: Path) -> None:
    def steps(**changes: object) -> set[int]:
        source = clips(root, tmp_path, **changes)
        found = [np.diff(levels(source[i].video)) for i in range(24)]
        assert all(len(set(d)) == 1 for d in found)
        return {int(d[0]) // 5 for d in found}

    assert steps() == {1}
    assert steps(stride=3) == {3}
    assert steps(stride=3, dynamic_fps=True) == {1, 2, 3}


def test_a_video_too_short_for_the_stride_is_read_at_the_largest_that_fits(tmp_path: Path) -> None:
    write(tmp_path / "videos" / "short.mkv", 0, frames=10)
    assert np.diff(levels(clips(tmp_path / "videos", tmp_path, stride=8)[0].video)).tolist() == [10] * 4


def test_shards_give_the_clips_that_the_files_in_them_would(root: Path, tmp_path: Path) -> None:
    packed = tmp_path / "shards"
    packed.mkdir()
    with tarfile.open(packed / "000.tar", "w") as shard:
        for i, path in enumerate(sorted(root.rglob("*.mkv"))):
            note = tmp_path / "note.id"
            note.write_text("ignored")
            shard.add(path, f"{i:06d}.mkv")
            shard.add(note, f"{i:06d}.id")
    files, shards = clips(root, tmp_path), TrainingClips(replace(QUICK, root=str(packed)), tmp_path / "s.csv")
    assert len(shards.entries) == 3
    assert [levels(files[i].video) for i in range(12)] == [levels(shards[i].video) for i in range(12)]


def test_a_broken_video_of_a_shard_is_named_by_its_own_name(root: Path, tmp_path: Path) -> None:
    noise = tmp_path / "noise.mp4"
    noise.write_bytes(bytes(range(256)) * 40)
    packed = tmp_path / "shards"
    packed.mkdir()
    with tarfile.open(packed / "000.tar", "w") as shard:
        shard.add(root / "sub0" / "v0.mkv", "000000.mkv")
        shard.add(noise, "000001.mp4")
        write(tmp_path / "short.mkv", 0, frames=2)
        shard.add(tmp_path / "short.mkv", "000002.mkv")
    source = TrainingClips(replace(QUICK, root=str(packed)), tmp_path / "s.csv")
    failed = {name for i in range(20) for name in source[i].failed}
    assert {name.partition(": ")[0] for name in failed} == {"000.tar:000001.mp4", "000.tar:000002.mkv"}
    assert all(name.count("000.tar") == 1 for name in failed)


def test_folders_that_are_links_are_searched_and_hidden_files_are_not(root: Path, tmp_path: Path) -> None:
    place = tmp_path / "linked"
    place.mkdir()
    (place / "link").symlink_to(root, target_is_directory=True)
    (place / "._v.mkv").write_bytes(b"not a video")
    assert [entry.file for entry in clips(place, tmp_path).entries] == [
        "link/sub0/v0.mkv",
        "link/sub0/v2.mkv",
        "link/sub1/v1.mkv",
    ]


def test_a_file_that_is_not_the_one_that_the_manifest_pins_is_not_trained_on(root: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "m.csv"
    pinned = hashlib.sha256((root / "sub0" / "v0.mkv").read_bytes()).hexdigest()
    manifest.write_text(f"file,sha256\nsub0/v0.mkv,{pinned}\nsub1/v1.mkv,{'0' * 64}\n")
    source = clips(root, tmp_path, manifest=str(manifest))
    failed = {name for i in range(20) for name in source[i].failed}
    assert [name.partition(": ")[0] for name in failed] == ["sub1/v1.mkv"]
    assert "pins" in failed.pop()
    kept = clips(root, tmp_path, manifest=str(manifest), cache="memory")
    assert list(kept.cached) == ["sub0/v0.mkv"]


def test_broken_files_are_named_and_replaced_by_another_draw(root: Path, tmp_path: Path) -> None:
    (root / "empty.mp4").write_bytes(b"")
    (root / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    write(root / "two_frames.mkv", 0, frames=2)
    source = clips(root, tmp_path)
    samples = [source[i] for i in range(40)]
    named = " ".join(name for sample in samples for name in sample.failed)
    assert all(sample.video.shape == (3, 5, 32, 32) for sample in samples)
    for name in ("empty.mp4", "noise.mp4", "two_frames.mkv"):
        assert name in named
    assert "v0.mkv" not in named


def test_a_folder_of_broken_files_is_an_error_not_an_endless_search(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    folder.mkdir()
    (folder / "noise.mp4").write_bytes(bytes(range(256)) * 40)
    with pytest.raises(ValueError, match=r"in a row cannot be read; the last error: .*noise\.mp4"):
        clips(folder, tmp_path)[0]
    with pytest.raises(ValueError, match="none of the 1 training videos"):
        clips(folder, tmp_path, cache="memory")
    (folder / "noise.mp4").unlink()
    write(folder / "brief.mkv", 0, frames=1)
    with pytest.raises(ValueError, match=r"brief\.mkv: too short: it has 1 frame, but 5 are needed"):
        clips(folder, tmp_path)[0]


def pack(shard: Path, *files: Path | tuple[Path, str]) -> None:
    """A shard of these files, a file by its own name or by another one."""
    shard.parent.mkdir(exist_ok=True)
    with tarfile.open(shard, "w") as archive:
        for given in files:
            file, name = given if isinstance(given, tuple) else (given, given.name)
            archive.add(file, name)


def test_shards_are_opened_once_and_the_list_is_kept(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pack(root / "0.tar", root / "sub0/v0.mkv", root / "sub0/v2.mkv")
    (tmp_path / "a.txt").touch()
    pack(root / "1.tar", tmp_path / "a.txt")  # without a video
    first = clips(root, tmp_path)
    assert [entry.name for entry in first.entries][:2] == ["0.tar:v0.mkv", "0.tar:v2.mkv"]
    assert len(first.entries) == 5
    capsys.readouterr()

    def opened(shard: Path) -> None:
        raise AssertionError(f"{shard} was opened again")

    monkeypatch.setattr(tar, "members", opened)
    assert clips(root, tmp_path).entries == first.entries
    assert capsys.readouterr().err == ""
    with pytest.raises(ValueError, match="lists"):
        TrainingClips(replace(QUICK, root=str(tmp_path)), tmp_path / "files.csv")


def test_a_shard_that_was_written_anew_is_listed_anew(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shards, (v0, v2, v1) = tmp_path / "shards", sorted(root.rglob("*.mkv"))
    pack(shards / "0.tar", v0, v1)
    old = clips(shards, tmp_path)
    pack(shards / "0.tar", v2, v0, v1)  # the old offsets are wrong now
    fresh, again = clips(shards, tmp_path), TrainingClips(replace(QUICK, root=str(shards)), tmp_path / "other.csv")
    assert len(old.entries) == 2
    assert fresh.entries == again.entries
    assert [entry.member for entry in fresh.entries] == ["v2.mkv", "v0.mkv", "v1.mkv"]
    assert {name for i in range(12) for name in fresh[i].failed} == set()
    said = (
        f"note: {shards} has changed since {tmp_path / 'files.csv'} was written: new or moved videos: 3, removed: 2\n"
    )
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("how", ["same size", "another version"])
def test_a_list_that_is_out_of_date_is_not_trusted(how: str, root: Path, tmp_path: Path) -> None:
    shards, (v0, v2, v1) = tmp_path / "shards", sorted(root.rglob("*.mkv"))
    pack(shards / "0.tar", (v0, "a.mkv"), (v1, "b.mkv"))
    right = clips(shards, tmp_path).entries
    if how == "same size":
        size = (shards / "0.tar").stat().st_size
        pack(shards / "0.tar", (v0, "c.mkv"), (v2, "d.mkv"))
        os.utime(shards / "0.tar", ns=(0, 123))
        assert (shards / "0.tar").stat().st_size == size
        assert [entry.member for entry in clips(shards, tmp_path).entries] == ["c.mkv", "d.mkv"]
    else:
        rows = [[json.dumps(str(shards)), "scene", "member", "offset", "length"], ["0.tar", "x", "z.mkv", "7", "9"]]
        (tmp_path / "files.csv").write_text("\n".join(",".join(row) for row in rows) + "\n")
        assert clips(shards, tmp_path).entries == right


def test_a_video_that_is_added_or_removed_is_seen(root: Path, tmp_path: Path) -> None:
    assert len(clips(root, tmp_path).entries) == 3
    (root / "sub0/v0.mkv").rename(root / "sub1/new.mkv")
    names = ["sub0/v2.mkv", "sub1/new.mkv", "sub1/v1.mkv"]
    assert [entry.file for entry in clips(root, tmp_path).entries] == names


def test_what_macos_adds_to_a_shard_is_not_trained_on(root: Path, tmp_path: Path) -> None:
    video = root / "sub0/v0.mkv"
    pack(tmp_path / "shards/0.tar", video, (video, "._v0.mkv"), (video, "__MACOSX/v0.mkv"))
    assert [entry.member for entry in clips(tmp_path / "shards", tmp_path).entries] == ["v0.mkv"]


@pytest.mark.parametrize("how", DAMAGE)
def test_the_whole_videos_of_a_damaged_shard_are_trained_on_and_the_shard_is_named(
    how: str, root: Path, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    damage(shards / "0.tar", how, (root / "sub0/v0.mkv").read_bytes())
    pack(shards / "1.tar", root / "sub1/v1.mkv")
    for _ in range(2):  # each time it is listed
        source = clips(shards, tmp_path)
        assert [entry.name for entry in source.entries] == ["0.tar:a.mp4", "1.tar:v1.mkv"]
        assert [reason.partition(" (")[0] for reason in source.unreadable] == [
            "0.tar: is not a whole, uncompressed tar"
        ]
        assert source[0].failed == ()
    kept = clips(shards, tmp_path, cache="memory")
    assert len(kept.unreadable) == 1
    assert list(kept.cached) == ["0.tar:a.mp4", "1.tar:v1.mkv"]


def test_clips_kept_in_memory_are_those_that_would_be_read(root: Path, tmp_path: Path) -> None:
    read, kept = clips(root, tmp_path), clips(root, tmp_path, cache="memory")
    assert all(torch.equal(read[i].video, kept[i].video) for i in range(10))


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # where there is one core only
def test_workers_keep_the_order(root: Path, tmp_path: Path) -> None:
    source = clips(root, tmp_path)
    alone, together = batches(source, 2, start=3), batches(source, 2, start=3, workers=2)
    for _ in range(3):
        a, b = next(alone), next(together)
        assert a.indices == b.indices
        assert torch.equal(a.video, b.video)


def test_scenes_are_drawn_evenly_however_many_files_they_have(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    for i in range(6):
        write(folder / f"v{i}.mkv", 0 if i < 5 else 120, frames=5)
    lines = [f"v{i}.mkv,{'many' if i < 5 else 'one'}" for i in range(6)]
    manifest = tmp_path / "m.csv"
    manifest.write_text("\n".join(["file,label", *lines]) + "\n")
    source = clips(folder, tmp_path, manifest=str(manifest), by_scene=True, cache="memory")
    share = np.mean([levels(source[i].video)[0] == 120 for i in range(200)])
    assert 0.4 < share < 0.6


def test_crops_turns_and_colours_change_the_picture_and_keep_its_shape(root: Path, tmp_path: Path) -> None:
    plain = clips(root, tmp_path, cache="memory", crop="random")
    strong = clips(root, tmp_path, cache="memory", crop="random", augment="strong", zoom=1.25, short=40)
    flipped = clips(root, tmp_path, cache="memory", augment="flip")
    assert {strong[i].video.shape for i in range(30)} == {plain[0].video.shape}
    left = [flipped[i].video[..., 0].mean() > flipped[i].video[..., -1].mean() for i in range(40)]
    assert 5 < sum(left) < 35
    assert all(strong[i].video.min() >= -1 and strong[i].video.max() <= 1 for i in range(30))


def test_zoomed_crops_show_more_of_the_picture_up_to_what_short_leaves(root: Path, tmp_path: Path) -> None:
    """Centred on the edge between the grey half and the dark one: a larger crop shows the same halves, less sharply."""
    settings = {"cache": "memory", "short": 48}
    plain, zoomed = (clips(root, tmp_path, **settings, zoom=zoom) for zoom in (1.0, 1.5))
    edge = slice(14, 18)
    soft = [zoomed[i].video[0, 0, 16, edge].diff().abs().max() for i in range(20)]
    hard = [plain[i].video[0, 0, 16, edge].diff().abs().max() for i in range(20)]
    assert sum(a < b - 1e-3 for a, b in zip(soft, hard, strict=True)) > 10


def test_synthetic_motion_needs_no_folder_and_moves(tmp_path: Path) -> None:
    source = TrainingClips(replace(QUICK, synthetic=1.0), tmp_path / "none.csv")
    moving = [not torch.equal(source[i].video[:, 0], source[i].video[:, 1]) for i in range(6)]
    assert sum(moving) >= 5
    assert torch.equal(source[4].video, source[4].video)


def test_missing_folders_and_empty_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="no such folder"):
        clips(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no video"):
        clips(tmp_path / "empty", tmp_path)
    with pytest.raises(ValueError, match=r"data\.root=DIR"):
        TrainingClips(QUICK, tmp_path / "f.csv")


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "shards"
    folder.mkdir()
    (folder / "000.tar").write_bytes(b"not a tar" * 200)
    with pytest.raises(ValueError, match=r"no shard \(\.tar\) with one; 000\.tar: is not a whole, uncompressed tar"):
        clips(folder, tmp_path)


@pytest.mark.parametrize(
    "bad", [{"size": 30}, {"stride": 0}, {"synthetic": 1.5}, {"short": 16}, {"zoom": 0.5}, {"zoom": 1.5}]
)
def test_impossible_data_settings_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match=r"data\."):
        replace(QUICK, **bad)


def test_clips_of_one_batch_share_a_shape_and_batches_mix_the_shapes(root: Path, tmp_path: Path) -> None:
    shapes = ["5x32", "9x16"]
    source = TrainingClips(replace(QUICK, root=str(root), shapes=shapes), tmp_path / "files.csv", seed=3, group=2)
    drawn = [tuple(batch.video.shape) for batch, _ in zip(batches(source, 2), range(12), strict=False)]
    assert set(drawn) == {(2, 3, 5, 32, 32), (2, 3, 9, 16, 16)}
    # two processes with one clip each take the shapes of one process with both
    for rank in range(2):
        alone = batches(source, 1, rank=rank, world=2)
        assert [next(alone).video.shape[1:] for _ in range(12)] == [shape[1:] for shape in drawn]


def test_synthetic_clips_take_the_shapes_too(tmp_path: Path) -> None:
    source = TrainingClips(replace(QUICK, synthetic=1.0, shapes=["5x32", "9x16"]), tmp_path / "files.csv")
    assert {source[i].video.shape for i in range(12)} == {(3, 5, 32, 32), (3, 9, 16, 16)}


@pytest.mark.parametrize("shapes", [["5"], ["5x"], ["0x32"], ["5x12"], ["5x64"]])
def test_impossible_shapes_are_refused(shapes: list[str]) -> None:
    with pytest.raises(ValueError, match=r"data\.(shapes|num_frames|short)"):
        TrainingData(root="x", short=48, num_frames=5, size=32, shapes=shapes)


@pytest.mark.parametrize("given", [{"root": "clips"}, {"manifest": "clips.csv"}])
def test_a_folder_that_synthetic_clips_would_ignore_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"trains on synthetic clips only; set data\.synthetic=0"):
        TrainingData(synthetic=1.0, **given)
    assert TrainingData(synthetic=0.5, **given).synthetic == 0.5
