"""Progress: a bar on a terminal; in a log one line per VAE and minute, with the time that is left."""

import io
from pathlib import Path

import pytest

from vaebench import cli
from vaebench.progress import Progress


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_log_has_one_line_per_minute_and_one_per_part():
    clock, log = Clock(), io.StringIO()
    with Progress("reconstruction", 40, "cases", stream=log, clock=clock) as progress:
        for name in ("dct/4", "dct/8"):
            with progress.part(name):
                for _ in range(10):
                    clock.now += 20
                    progress.update()
    assert log.getvalue().splitlines() == [
        "reconstruction: 3 of 40 cases, 1 min, about 12 min left (dct/4)",
        "reconstruction: 6 of 40 cases, 2 min, about 11 min left (dct/4)",
        "reconstruction: 9 of 40 cases, 3 min, about 10 min left (dct/4)",
        "reconstruction: 10 of 40 cases, 3 min, about 10 min left (dct/4 finished)",
        "reconstruction: 13 of 40 cases, 4 min, about 9 min left (dct/8)",
        "reconstruction: 16 of 40 cases, 5 min, about 8 min left (dct/8)",
        "reconstruction: 19 of 40 cases, 6 min, about 7 min left (dct/8)",
        "reconstruction: 20 of 40 cases, 7 min, about 7 min left (dct/8 finished)",
    ]


def test_quick_steps_print_nothing_until_the_part_ends():
    clock, log = Clock(), io.StringIO()
    with Progress("efficiency", 1000, "cases", stream=log, clock=clock) as progress:
        with progress.part("a"):
            for _ in range(1000):
                progress.update()
        with progress.part("b"):  # all of its cases were stored
            pass
    assert log.getvalue() == "efficiency: 1000 of 1000 cases, 0 s (a finished)\n"


def test_a_part_of_which_every_step_failed_is_not_said_to_be_finished():
    log = io.StringIO()
    with Progress("x", 1, "cases", stream=log, clock=Clock()) as progress, progress.part("a", lambda: True):
        progress.update()
    assert log.getvalue() == "x: 1 of 1 cases, 0 s (a failed)\n"


def test_cases_that_are_measured_again_raise_the_total():
    log = io.StringIO()
    with Progress("blockwise", 2, "cases", stream=log, clock=Clock()) as progress, progress.part("a"):
        progress.expect(2)
        progress.update(2)
        progress.expect(1)
        progress.update()
    assert log.getvalue() == "blockwise: 3 of 3 cases, 0 s (a finished)\n"


def test_steps_of_an_earlier_run_do_not_count_for_the_speed():
    clock, log = Clock(), io.StringIO()
    progress = Progress("train", 300, "steps", done=200, stream=log, clock=clock)
    clock.now += 100
    progress.update(50)
    assert log.getvalue() == "train: 250 of 300 steps, 2 min, about 2 min left\n"


@pytest.mark.parametrize("quiet", [{"quiet": True}, {"done": 7}])
def test_nothing_is_shown_by_other_processes_or_without_work(quiet: dict):
    for stream in (io.StringIO(), Terminal()):
        clock = Clock()
        with Progress("x", 7, "cases", stream=stream, clock=clock, **quiet) as progress, progress.part("a"):
            clock.now += 1000
            progress.update(0 if "done" in quiet else 7)
        assert stream.getvalue() == ""


def test_a_terminal_has_a_bar_with_the_remaining_time():
    terminal = Terminal()
    with Progress("reconstruction", 4, "cases", stream=terminal) as progress, progress.part("dct/4"):
        progress.bar.mininterval = 0
        progress.update(2)
        progress.bar.refresh()
    text = terminal.getvalue()
    assert "reconstruction:" in text
    assert "2/4" in text
    assert "<" in text  # elapsed < remaining
    assert "dct/4" in text
    assert text.count("\n") == 1


def test_a_run_in_a_log_names_each_vae_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    words = ["run", "vaes=dct/4,dct/8", "num_frames=1", "size=32", "clips=2", "metrics=psnr"]
    assert cli.main(words) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "finished" in line]
    assert [line.partition(", ")[0] for line in lines] == [
        "reconstruction: 2 of 4 cases",
        "reconstruction: 4 of 4 cases",
    ]
    assert "(dct/8 finished)" in lines[1]
    assert cli.main(words) == 0  # everything is stored
    assert "cases" not in capsys.readouterr().err
