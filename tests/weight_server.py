"""Fixtures for weight files: an empty machine, a web site and a Hugging Face Hub on it that serve one file."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from vaebench import weights
from vaebench.weights import WeightFile, registry

CONTENT = bytes(range(256)) * 5000  # more than one block
SHA = hashlib.sha256(CONTENT).hexdigest()
HUB = "hf:org/repo@0123abc:vae/model.safetensors"


class Server(HTTPServer):
    """Says nothing of a client that closes early, as one that only asks for a size does: tests read this process's stderr."""

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@pytest.fixture
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

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def left_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


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

        self.server = Server(("127.0.0.1", 0), Handler)
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
