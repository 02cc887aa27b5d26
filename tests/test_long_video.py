"""The windows of long video are those that the released code of each system makes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaebench.long_video import PROTOCOLS, Window, denoising_steps, find, plan


@pytest.mark.parametrize(
    ("frames", "window", "count"),
    [(97, 97, 1), (257, 97, 3), (377, 97, 5), (737, 97, 9), (1457, 97, 18), (257, 121, 3)],
)
def test_skyreels_makes_the_windows_of_its_readme(frames: int, window: int, count: int):
    made = plan("skyreels-v2", frames=frames, window=window)
    assert (len(made.windows), made.hops, made.frames) == (count, count - 1, frames)


def test_the_last_window_of_skyreels_is_shorter():
    assert [w.new for w in plan("skyreels-v2", frames=257).windows] == [97, 80, 80]
    made = plan("skyreels-v2", frames=257, window=121)
    assert made.windows == (Window(0, 121, 0), Window(104, 225, 17), Window(208, 257, 17))
    assert [w.new for w in made.windows] == [121, 104, 32]
    assert [made.latents(w) for w in made.windows] == [31, 31, 13]


@pytest.mark.parametrize(("overlap", "latents"), [(17, 5), (37, 10)])
def test_an_overlap_of_skyreels_is_whole_latent_frames(overlap: int, latents: int):
    made = plan("skyreels-v2", frames=257, overlap=overlap)
    assert made.latents(overlap) == latents
    # n_iter of the released code: 1 + (L - b - 1) // (b - o) + 1
    assert len(made.windows) == 1 + (65 - 25 - 1) // (25 - latents) + 1


@given(st.integers(1, 400), st.integers(2, 31), st.integers(1, 10))
def test_windows_join_without_gaps_and_end_at_the_last_frame(total: int, window: int, overlap: int):
    if overlap >= window:
        return
    frames, window, overlap = 4 * total - 3, 4 * window - 3, 4 * overlap - 3
    for name in ("skyreels-v2", "svi-film"):
        made = plan(name, at_least=frames, window=window, overlap=overlap)
        assert made.windows[0].start == made.windows[0].overlap == 0
        for before, after in zip(made.windows, made.windows[1:], strict=False):
            assert after.start == before.stop - after.overlap
            assert (after.overlap, before.length) == (overlap, window)
        assert sum(w.new for w in made.windows) == made.windows[-1].stop == made.frames >= frames
        assert len(made.windows) == 1 or made.windows[-2].stop < frames
    assert made.windows[-1].length == window  # SVI encodes clips of one length


@pytest.mark.parametrize(
    ("name", "windows", "frames", "round_trips"),
    [
        ("ltx-first-frame", 15, 1801, 14),
        ("ltx-latent", 27, 1505, 0),
        ("skyreels-v2", 18, 1441, 17),
        ("skyreels-v2-latent", 18, 1441, 0),
        ("svi-film", 13, 993, 12),
        ("svi-shot", 12, 961, 11),
    ],
)
def test_sixty_seconds_of_each_system(name: str, windows: int, frames: int, round_trips: int):
    made = plan(name, seconds=60)
    assert (len(made.windows), made.frames, made.round_trips) == (windows, frames, round_trips)
    assert made.seconds >= 60


@pytest.mark.parametrize(("clips", "frames"), [(10, 765), (50, 3805)])
def test_clips_of_svi_film_lose_their_last_5_frames(clips: int, frames: int):
    assert plan("svi-film", hops=clips - 1).frames == frames == 81 + (clips - 1) * 76


def test_latent_windows_count_latent_frames():
    made = plan("skyreels-v2-latent", frames=257)
    assert made.windows == (Window(0, 25, 0), Window(20, 45, 5), Window(40, 65, 5))
    assert made.frames == 257
    made = plan("ltx-latent", frames=161)  # 21 latent frames
    assert made.windows == (Window(0, 10, 0), Window(7, 17, 3), Window(14, 21, 3))


def test_static_carries_one_frame_and_loop_the_whole_window():
    assert plan("static", hops=9).frames == 17 + 9 * 16
    made = plan("loop", hops=9)
    assert made.windows == (Window(0, 17, 0), *[Window(0, 17, 17)] * 9)
    assert (made.frames, made.round_trips) == (17, 10)


def test_a_plan_of_hops_is_the_shortest_video_with_full_windows():
    for name in PROTOCOLS:
        assert plan(name, hops=0).hops == 0
        made = plan(name, hops=4)
        assert made.hops == 4
        assert {w.length for w in made.windows} == {made.protocol.window}


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("skyreels-v2", {"frames": 250}, "frames=250 .*4k\\+1.* 249 or 253"),  # the released code returns 249
        ("ltx-first-frame", {"frames": 192}, "frames=192 .*8k\\+1.* 185 or 193"),
        ("ltx-first-frame", {"frames": 193, "window": 120}, "window=120 .*8k\\+1.* 113 or 121"),
        ("ltx-first-frame", {"frames": 193, "overlap": 8}, "overlap=8 .*8k\\+1.* 1 or 9"),
        ("svi-film", {"frames": 121}, "frames=121 .* 81 or 157"),
        ("svi-film", {"hops": 1, "overlap": 4}, "overlap=4 .*4k\\+1.* 1 or 5"),
        ("skyreels-v2", {"frames": 257, "overlap": 97}, "overlap=97 .*window=97.* 93"),
        ("skyreels-v2", {"frames": 0}, "frames=0 .* 1"),
        ("skyreels-v2", {"hops": -1}, "hops=-1"),
        ("skyreels-v2", {"seconds": 0}, "seconds=0"),
        ("skyreels-v2", {"seconds": float("inf")}, "seconds=inf"),
        ("skyreels-v2", {}, "exactly one of"),
        ("skyreels-v2", {"frames": 97, "hops": 0}, "exactly one of"),
        ("static", {"seconds": 10}, "fps"),
        ("loop", {"frames": 33}, "hops="),
        ("skyreels-v2", {"frames": 97, "block": 4}, "window=97 .*25 latent.*block=4.* 93 or 109"),
        ("skyreels-v2", {"frames": 121, "window": 121, "block": 5}, "31 latent.* 117 or 137"),
        ("skyreels-v2", {"frames": 1441, "block": 5}, "frames=1441 .* 1437 or 1457"),
        ("skyreels-v2", {"frames": 97, "overlap": 9, "block": 5}, "overlap=9 .*3 latent.* 17"),
        ("svi-shot", {"hops": 1, "block": 5}, "block=5"),
        ("skyreel-v2", {"hops": 1}, "did you mean 'skyreels-v2'"),
    ],
)
def test_an_invalid_plan_names_the_nearest_valid_value(name: str, settings: dict[str, float], message: str):
    with pytest.raises(ValueError, match=message):
        plan(name, **settings)  # type: ignore[arg-type]


def rows(blocks: int, ready: int, steps: int, delay: int) -> int:
    """Rows of the staggered schedule, counted by running it: a block starts `delay` rows after the one before it."""
    done, count = [steps] * ready + [0] * (blocks - ready), 0
    while min(done) < steps:
        count += 1
        done = [steps if i < ready else min(steps, max(0, count - (i - ready) * delay)) for i in range(blocks)]
    return count


@pytest.mark.parametrize("delay", [0, 1, 5, 10])
def test_the_steps_of_asynchronous_denoising_are_those_of_its_schedule(delay: int):
    made = plan("skyreels-v2", frames=257, block=5)
    expected = tuple(rows(5, ready, 30, delay) for ready in (0, 1, 1))
    assert denoising_steps(made, steps=30, delay=delay) == expected
    assert denoising_steps(plan("skyreels-v2", frames=97, block=5), steps=30, delay=5) == (30 + 4 * 5,)


def test_sixty_seconds_in_blocks_is_the_length_that_skyreels_recommends():
    made = plan("skyreels-v2", seconds=60, block=5)
    assert (made.frames, len(made.windows), {w.length for w in made.windows}) == (1457, 18, {97})


def test_every_protocol_has_a_name_and_a_valid_window():
    assert set(PROTOCOLS) == {
        *("loop", "static", "ltx-first-frame", "ltx-latent"),
        *("skyreels-v2", "skyreels-v2-latent", "svi-film", "svi-shot"),
    }
    for name in PROTOCOLS:
        assert find(name).name == name
        assert plan(name, hops=1).windows[0].length == find(name).window
