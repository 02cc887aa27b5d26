import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from vaebench.store import Store


def test_a_case_comes_back_as_it_was_kept(tmp_path: Path):
    store = Store(tmp_path / "new")
    assert "a/b" not in store
    assert store.get("a/b") is None
    kept = {"psnr": np.float32(31.5), "fvd": np.arange(6.0).reshape(2, 3)}
    store.put("a/b", kept)
    assert "a/b" in store
    back = store.get("a/b")
    assert back is not None
    assert all(np.array_equal(back[name], kept[name]) for name in kept)


def test_ids_that_differ_only_in_characters_a_file_name_lacks_are_two_cases(tmp_path: Path):
    store = Store(tmp_path)
    store.put("a/b", {"x": np.zeros(1)})
    store.put("a_b", {"x": np.ones(1)})
    assert store.get("a/b")["x"] == 0
    assert store.get("a_b")["x"] == 1


@pytest.mark.parametrize("keep_bytes", [0, 10, 200])
def test_a_damaged_file_is_a_case_not_yet_done(tmp_path: Path, keep_bytes: int):
    store = Store(tmp_path)
    store.put("case", {"x": np.arange(100.0)})
    (file,) = tmp_path.glob("*.npz")
    file.write_bytes(file.read_bytes()[:keep_bytes])
    assert store.get("case") is None
    assert "case" not in store


def test_a_failed_write_leaves_nothing(tmp_path: Path):
    class Broken:
        def __array__(self, *_: object, **__: object) -> np.ndarray:
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        Store(tmp_path).put("case", {"x": Broken()})
    assert list(tmp_path.iterdir()) == []


def test_a_failure_is_remembered_until_the_case_succeeds(tmp_path: Path):
    store = Store(tmp_path)
    store.fail("case", "clip.mp4", "cut short")
    assert store.failure("case") == {"case": "case", "file": "clip.mp4", "reason": "cut short"}
    store.put("case", {"x": np.zeros(1)})
    assert store.failure("case") is None


def test_a_kill_in_the_middle_of_writing_leaves_whole_cases_or_none(tmp_path: Path):
    script = textwrap.dedent(f"""
        import numpy as np
        from pathlib import Path
        from vaebench.store import Store
        store = Store(Path({str(tmp_path)!r}))
        print("ready", flush=True)
        for i in range(10_000):
            store.put(f"case{{i}}", {{"x": np.full(20_000, float(i))}})
    """)
    writer = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ})
    assert writer.stdout is not None
    writer.stdout.readline()
    while len(list(tmp_path.glob("*.npz"))) < 5:
        assert writer.poll() is None
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    writer.stdout.close()
    store = Store(tmp_path)
    count = len(list(tmp_path.glob("*.npz")))
    for i in range(count):
        kept = store.get(f"case{i}")
        assert kept is not None
        assert np.array_equal(kept["x"], np.full(20_000, float(i)))
