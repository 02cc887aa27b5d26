"""Downloads of weight files, from a web site or the Hugging Face Hub: all of the published bytes, or no file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.weight_server import CONTENT, HUB, SHA, Hub, enter, left_in
from vaebench import weights
from vaebench.weights import fetch, verify

pytestmark = pytest.mark.usefixtures("home")


def test_fetch_downloads_verifies_and_keeps(site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, f"{site}/net.pth")
    file = fetch.fetch("net")
    assert file == shelf / "net.pth"
    assert file.read_bytes() == CONTENT
    assert file.stat().st_mode & 0o777 == 0o644
    assert left_in(shelf) == ["net.pth"]
    assert weights.verified("net") == file


def test_fetch_shows_its_progress(
    site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    enter(monkeypatch, f"{site}/net.pth")
    fetch.fetch("net")
    assert "net: 100%" in capsys.readouterr().err


def test_fetch_without_a_folder_of_ones_own_fills_the_cache(
    site: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, f"{site}/net.pth")
    assert fetch.fetch("net") == home / ".cache/vaebench/weights/net.pth"


def test_what_is_here_is_not_fetched_again_but_it_is_verified(
    site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, f"{site}/missing")
    shelf.mkdir()
    (shelf / "net.pth").write_bytes(CONTENT)
    assert fetch.fetch("net") == shelf / "net.pth"
    (shelf / "net.pth").write_bytes(b"another")
    with pytest.raises(ValueError, match="not the published net"):
        fetch.fetch("net")


@pytest.mark.parametrize(
    ("page", "reason"),
    [("missing", "404 Client Error"), ("page", "26 bytes, its sha256 is"), ("short", "")],
)
def test_what_is_not_the_file_is_not_kept(
    page: str, reason: str, site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, f"{site}/{page}")
    with pytest.raises(ConnectionError, match=rf"no file was written \(.*/{page}: {reason}.*copy it into"):
        fetch.fetch("net")
    assert left_in(shelf) == []


@pytest.mark.parametrize("page", ["missing", "page", "short"])
def test_a_mirror_is_asked_when_the_origin_fails(
    page: str, site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, f"{site}/{page}", mirrors=(f"{site}/net.pth",))
    assert fetch.fetch("net").read_bytes() == CONTENT
    assert left_in(shelf) == ["net.pth"]


def test_an_origin_that_cannot_be_reached_is_one_line(
    shelf: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    enter(monkeypatch, (tmp_path / "nothing").as_uri(), mirrors=("http://127.0.0.1:1/net.pth",))
    with pytest.raises(ConnectionError, match=r"nothing: .*127\.0\.0\.1:1/net\.pth: ") as refused:
        fetch.fetch("net")
    assert "\n" not in str(refused.value)


def test_an_interrupted_download_leaves_nothing(site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    enter(monkeypatch, f"{site}/net.pth")
    monkeypatch.setattr(fetch, "_download", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch.fetch("net")
    assert left_in(shelf) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_said_and_no_mirror_is_blamed(site: str, shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = enter(monkeypatch, f"{site}/net.pth", mirrors=(f"{site}/net.pth",))
    with pytest.raises(OSError, match="No space left"):
        fetch._download(entry, "net", Path("/dev/full"))
    assert not shelf.exists()


def test_a_file_of_the_hub_is_fetched_and_verified_against_the_published_sha256(hub: Hub) -> None:
    file = fetch.fetch(HUB)
    assert file.read_bytes() == CONTENT
    assert weights.find(HUB) == file
    asked = len(hub.requests)
    assert fetch.fetch(HUB) == file  # verified, not downloaded again
    assert len(hub.requests) == asked


def test_a_download_of_the_right_size_with_wrong_bytes_is_refused(hub: Hub) -> None:
    hub.body = CONTENT[:-1] + b"!"
    wrong = hashlib.sha256(hub.body).hexdigest()
    with pytest.raises(ConnectionError, match=rf"its sha256 is {wrong}, expected {SHA}; the file was deleted"):
        fetch.fetch(HUB)
    assert weights.here(HUB) is None
    hub.body = CONTENT
    assert fetch.fetch(HUB).read_bytes() == CONTENT


def test_a_small_file_of_the_hub_is_verified_by_its_object_id(hub: Hub) -> None:
    hub.etag = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT, usedforsecurity=False).hexdigest()
    assert fetch.fetch(HUB).read_bytes() == CONTENT
    assert verify.published(HUB) == verify.Published(f"git {hub.etag}", len(CONTENT))


def test_the_digest_of_a_spec_counts_more_than_the_hubs(hub: Hub) -> None:
    with pytest.raises(ConnectionError, match=f"its sha256 is {SHA}, expected {'0' * 64}"):
        fetch.fetch(HUB, "0" * 64)


def test_a_file_that_the_repository_lacks_is_one_line(hub: Hub) -> None:
    hub.path = "elsewhere"
    with pytest.raises(
        FileNotFoundError, match=r"org/repo@0123abc has no vae/model\.safetensors: see https://"
    ) as said:
        fetch.fetch(HUB)
    assert "\n" not in str(said.value)


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def hf_hub_download(*_: object, **__: object) -> str:
        raise RuntimeError("offline:\n  no such host")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", hf_hub_download)
    with pytest.raises(
        ConnectionError, match=r"org/repo@0123abc could not be read from the Hub: offline: no such host"
    ):
        fetch.fetch(HUB)
