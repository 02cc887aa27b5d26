"""File names are unique and short, and a write leaves the old file or the new one."""

import hashlib
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vaebench.files import file_name, write_atomically


@pytest.mark.parametrize(
    "plain", ["bundle-33x256", "clips_1a2b3c-5x32-psnr+flicker", "dct-16", "wan-2.1", "a_b", "x" * 120, "_"]
)
def test_a_plain_short_text_is_its_own_name(plain: str):
    assert file_name(plain) == plain


@pytest.mark.parametrize(
    ("text", "readable"),
    [
        ("bundle/a", "bundle_a-"), ("a b", "a_b-"), ("猫", "_-"), ("", ""), (".hidden", "hidden-"), ("..", ""),
        ("../../x", "_.._x-"), ("y" * 121, "y" * 111 + "-"), ("-rf", "rf-"),
    ],
)  # fmt: skip
def test_any_other_text_is_shortened_to_plain_characters_and_a_digest(text: str, readable: str):
    assert file_name(text) == readable + hashlib.sha256(text.encode()).hexdigest()[:8]


@given(st.lists(st.text(max_size=200), unique=True, max_size=20))
def test_two_texts_never_share_a_name_and_every_name_is_one_plain_file(texts: list[str]):
    names = [file_name(text) for text in texts]
    assert len(set(names)) == len(texts)
    for name in names:
        assert 0 < len(name) <= 120
        assert name.isascii()
        assert Path(name).name == name
        assert name[0] not in ".-"


def test_a_write_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_atomically(tmp_path / "a", "猫 first")
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        write_atomically(tmp_path / "a", b"second")
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text(encoding="utf-8") == "猫 first"
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o644


def test_writers_of_one_file_never_leave_a_mixture(tmp_path: Path):
    contents = {str(i) * 50_000 for i in range(4)}

    def write_often(content: str) -> None:
        for _ in range(20):
            write_atomically(tmp_path / "a", content)

    threads = [threading.Thread(target=write_often, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert not (tmp_path / "a").exists() or (tmp_path / "a").read_text() in contents
        time.sleep(0.001)  # on one core, a loop without it keeps the writers waiting for minutes
    assert [file.name for file in tmp_path.iterdir()] == ["a"]
