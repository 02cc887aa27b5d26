"""Weight files: where they are looked for, what is verified, and a download that keeps all or nothing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from vaebench import cli, plugins, weights
from vaebench.weights import HubFile, Unavailable, WeightFile, fetch, registry, verify

CONTENT = bytes(range(256)) * 5000  # more than one block
SHA = hashlib.sha256(CONTENT).hexdigest()
HUB = "hf:org/repo@0123abc:vae/model.safetensors"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("VAEBENCH_WEIGHTS", "TORCH_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """$VAEBENCH_WEIGHTS, not made yet."""
    monkeypatch.setenv("VAEBENCH_WEIGHTS", str(tmp_path / "shelf"))
    return tmp_path / "shelf"


def enter(monkeypatch: pytest.MonkeyPatch, url: str, **change: object) -> WeightFile:
    """The only entry of the table: "net", a file of CONTENT."""
    entry = WeightFile("net.pth", url, SHA, "a test", "none")
    entry = dataclasses.replace(entry, **change)  # type: ignore[arg-type]
    monkeypatch.setattr(registry, "FILES", {"net": entry})
    monkeypatch.setattr(weights, "FILES", registry.FILES)
    return entry


@pytest.fixture
def site() -> Iterator[str]:
    """A web site on this machine: /net.pth is the file, /short breaks off, /page is a page, anything else is missing."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = {"/net.pth": CONTENT, "/short": CONTENT, "/page": b"<html>please log in</html>"}.get(self.path)
            if body is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if self.path == "/short" else body)

        do_HEAD = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


# --- the table -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", weights.FILES)
def test_every_entry_says_where_from_what_for_and_under_which_licence(name: str) -> None:
    entry = weights.FILES[name]
    assert all(url.startswith("https://") for url in (entry.url, *entry.mirrors))
    assert len(bytes.fromhex(entry.sha256)) in (0, 32)
    assert len(bytes.fromhex(entry.git_blob)) in (0, 20)
    assert entry.license
    assert Path(entry.file).name == entry.file
    assert set(entry.used_by.split(", ")) <= {*plugins.names("metrics"), *plugins.names("suites")}


@pytest.mark.parametrize("name", ["alexnet", "vgg16"])
def test_the_checksum_agrees_with_the_digits_that_torchvision_puts_into_the_name(name: str) -> None:
    entry = weights.FILES[name]
    assert entry.sha256.startswith(entry.file.removesuffix(".pth").rpartition("-")[2])


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"no weights called 'alexnt'; did you mean 'alexnet'\?"):
        weights.path("alexnt")


# --- where a metric's file lies ------------------------------------------------------------------------------------


def test_the_users_folder_comes_first_then_the_cache_then_torchs(
    home: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, "https://nowhere.invalid/net.pth")
    places = [shelf, home / ".cache/vaebench/weights", home / ".cache/torch/hub/checkpoints"]
    for place in reversed(places):
        place.mkdir(parents=True)
        (place / "net.pth").write_bytes(CONTENT)
        assert weights.path("net") == place / "net.pth"


@pytest.mark.parametrize(("variable", "inside"), [("TORCH_HOME", "hub"), ("XDG_CACHE_HOME", "torch/hub")])
def test_torchs_cache_is_where_torch_has_it(
    variable: str, inside: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, "https://nowhere.invalid/net.pth")
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    file = tmp_path / "other" / inside / "checkpoints" / "net.pth"
    file.parent.mkdir(parents=True)
    file.write_bytes(CONTENT)
    assert weights.path("net") == file


def test_a_missing_file_is_unavailable_and_the_message_says_how_to_get_it(
    shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, "https://nowhere.invalid/net.pth")
    with pytest.raises(Unavailable) as missing:
        weights.path("net")
    for words in ("vaebench weights fetch net", "$VAEBENCH_WEIGHTS", "https://nowhere.invalid/net.pth"):
        assert words in str(missing.value)
    assert str(shelf.parent) not in str(missing.value)  # the message is kept in records
    assert isinstance(missing.value, OSError)  # one line on the command line


# --- checksums -----------------------------------------------------------------------------------------------------


def test_only_the_known_bytes_are_verified(shelf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enter(monkeypatch, "https://nowhere.invalid/net.pth")
    shelf.mkdir()
    file = shelf / "net.pth"
    file.write_bytes(CONTENT)
    assert weights.verified("net") == file
    file.write_bytes(CONTENT[:-1])
    with pytest.raises(ValueError, match=f"net.pth is not the published net: .* expected {SHA}; delete it"):
        weights.verified("net")


def test_a_digest_is_remembered_until_the_file_changes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "big"
    file.write_bytes(CONTENT)
    assert weights.digest(file) == SHA
    with monkeypatch.context() as patched:
        patched.setattr(verify, "_sha256", lambda stream: "read again")
        assert weights.digest(file) == SHA
        file.write_bytes(CONTENT + b"!")
        assert weights.digest(file) == "read again"
    (home / ".cache/vaebench/sha256.json").write_text("{half a fi")
    assert weights.digest(file) == hashlib.sha256(CONTENT + b"!").hexdigest()


def test_a_file_of_the_same_size_and_time_does_not_pass_for_the_verified_one(
    home: Path, shelf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    enter(monkeypatch, "https://nowhere.invalid/net.pth")
    shelf.mkdir()
    file = shelf / "net.pth"
    file.write_bytes(CONTENT)
    assert weights.digest(file) == SHA  # it is remembered from now on
    time = file.stat().st_mtime_ns
    file.write_bytes(CONTENT[:-1] + b"!")
    os.utime(file, ns=(time, time))
    with pytest.raises(ValueError, match="is not the published net"):
        weights.verified("net")


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', "{KEY: 3}"])
def test_remembered_checksums_of_another_type_are_forgotten(home: Path, tmp_path: Path, content: str) -> None:
    file, memory = tmp_path / "big", home / ".cache/vaebench/sha256.json"
    file.write_bytes(CONTENT)
    assert weights.digest(file) == SHA
    (key,) = json.loads(memory.read_text())
    memory.write_text(content.replace("KEY", json.dumps(key)))
    assert weights.digest(file) == SHA
    assert json.loads(memory.read_text()) == {key: SHA}


# --- fetch ---------------------------------------------------------------------------------------------------------


def left_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


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


# --- files of the Hugging Face hub ---------------------------------------------------------------------------------


class Hub:
    """The Hub's resolve endpoint on this machine, one file in one repository, spoken to by the real client."""

    def __init__(self) -> None:
        self.path, self.body, self.etag = "vae/model.safetensors", CONTENT, SHA
        self.requests: list[str] = []
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                hub.requests.append(f"{self.command} {self.path}")
                if self.path != f"/org/repo/resolve/0123abc/{hub.path}":
                    self.send_response(404)
                    self.send_header("X-Error-Code", "EntryNotFound")
                    self.send_header("X-Repo-Commit", "0" * 40)
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                self.send_response(200)
                self.send_header("X-Repo-Commit", "0" * 40)
                self.send_header("X-Linked-Etag", f'"{hub.etag}"')
                self.send_header("X-Linked-Size", str(len(CONTENT)))
                self.send_header("Content-Length", str(len(hub.body)))
                self.end_headers()

            def do_GET(self) -> None:
                self.do_HEAD()
                self.wfile.write(hub.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    from huggingface_hub import constants

    hub = Hub()
    thread = threading.Thread(target=hub.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    yield hub
    hub.server.shutdown()
    thread.join()
    hub.server.server_close()


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


# --- the command line ----------------------------------------------------------------------------------------------


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


# --- fetch=true of a run ---------------------------------------------------------------------------------------------


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
    words = ["run", "vaes=sd/ft-mse+taesd/sd", "metrics=psnr", "fetch=true", "results=R", "runs=S"]
    assert cli.main(words) == 2
    assert "failed: sd/ft-mse: " in capsys.readouterr().err


def test_a_suite_that_reads_no_weights_fetches_none(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "--suite", "efficiency", "vaes=wan/2.1", "fetch=true"]) == 2
    assert "the efficiency suite uses no weight files: remove fetch=true" in capsys.readouterr().err


# --- where the weights of a VAE are ----------------------------------------------------------------------------------


def test_weights_in_place_of_those_that_ship_are_a_file_or_its_folder(tmp_path: Path) -> None:
    source, file = "package:wfvae:weights/tiny.safetensors", tmp_path / "diffusion_pytorch_model.safetensors"
    assert weights.find(source).is_file()
    with pytest.raises(Unavailable, match="nowhere does not exist: give a weight file"):
        weights.find(source, str(tmp_path / "nowhere"))
    file.touch()
    assert weights.find(source, str(tmp_path)) == weights.find(source, str(file)) == file


@pytest.mark.parametrize("source", ["org/repo@1:a", "hf:org/repo:a", "hf:org/repo@1", "hf:@1:a", "hf:org/repo@1:"])
def test_a_source_that_pins_no_revision_or_file_is_refused(source: str) -> None:
    with pytest.raises(ValueError, match="expected hf:org/repo@revision:path"):
        HubFile.parse(source)


def test_the_weights_of_a_vae_are_found_where_they_were_put(shelf: Path, home: Path, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"org/repo/vae/model\.safetensors is not here: run .* weights=PATH"):
        weights.find(HUB)
    cached = home / ".cache/vaebench/weights/org--repo/vae/model.safetensors"
    own = shelf / "org--repo/vae/model.safetensors"
    for file in (cached, own):
        file.parent.mkdir(parents=True)
        file.touch()
        assert weights.find(HUB) == file
    given = tmp_path / "given"
    given.mkdir()
    with pytest.raises(Unavailable, match=r"given has no model\.safetensors"):
        weights.find(HUB, str(given))
    (given / "model.safetensors").touch()
    assert weights.find(HUB, str(given)) == weights.find(HUB, str(given / "model.safetensors"))
