"""Files that appear whole or not at all, and reach the disk before their names do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

from vaebench import files
from vaebench.store import Store
from wfvae import state


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """(name, whether the finished file has its name) of every fsync."""
    calls: list[tuple[str, bool]] = []
    real = os.fsync

    def record(handle: int) -> None:
        path = Path(f"/proc/self/fd/{handle}").readlink() if sys.platform == "linux" else Path()
        folder = path if path.is_dir() else path.parent
        calls.append((path.name, any(file.name in ("done", "step-00000001") for file in folder.iterdir())))
        real(handle)

    monkeypatch.setattr(os, "fsync", record)
    return calls


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_contents_reach_the_disk_before_the_name_and_the_name_before_the_end(
    tmp_path: Path, synced: list[tuple[str, bool]]
) -> None:
    with files.draft(tmp_path / "done") as part:
        part.write_text("content")
    assert synced == [(part.name, False), (tmp_path.name, True)]
    synced.clear()
    state.write(state.checkpoint_folder(tmp_path, 1), {}, {"w": torch.zeros(1)}, {"step": 1})
    *contents, last = synced
    draft = f".step-00000001.{os.getpid()}"
    assert {name for name, _ in contents} == {"config.json", state.WEIGHTS, state.TRAINING, draft}
    assert not any(there for _, there in contents)
    assert last == ("checkpoints", True)


@pytest.mark.parametrize("failure", [RuntimeError("unexpected pos\n64"), SafetensorError("no space"), OSError("full")])
def test_a_failed_write_is_one_line_and_keeps_the_older_file(tmp_path: Path, failure: Exception) -> None:
    target = tmp_path / "done"
    target.write_text("older")

    def fill() -> None:
        with files.draft(target) as part:
            part.write_text("half a fi")
            raise failure

    with pytest.raises(OSError, match=r"cannot be written|full") as caught:
        fill()
    assert "\n" not in str(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["done"]
    assert target.read_text() == "older"


def test_a_store_removes_drafts_of_dead_processes_of_this_machine_only(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    host = socket.gethostname()
    dead, living, foreign = (
        tmp_path / f"case.0.{end}.part" for end in (f"{host}.{ended.pid}", f"{host}.{os.getppid()}", "elsewhere!.1")
    )
    for file in (dead, living, foreign):
        file.touch()
    Store(tmp_path).put("case", {"x": np.zeros(1)})
    assert not dead.exists()
    assert living.exists()
    assert foreign.exists()


def test_an_error_names_the_file_and_not_its_draft(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        files.write_atomically(tmp_path / "missing" / "done", "content")
    assert caught.value.filename == str(tmp_path / "missing" / "done")


def test_a_long_name_leaves_room_for_the_end_of_its_draft(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / ("x" * 250), "content")
    assert [file.name for file in tmp_path.iterdir()] == ["x" * 250]
