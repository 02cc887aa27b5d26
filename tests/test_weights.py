"""Weight files: the table, where they are looked for, and what is verified."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import pytest

from tests.weight_server import CONTENT, HUB, SHA, enter
from vaebench import plugins, weights
from vaebench.weights import HubFile, Unavailable, verify

pytestmark = pytest.mark.usefixtures("home")


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
