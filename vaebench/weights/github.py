"""Weights in a GitHub repository: `github:owner/repo@commit:path#id`, several files of one network joined by "+".

The commit pins a version, since files change under the same name; `id` is the file's object id in git (sha1 of "blob <length>\\0"
and its bytes), so that a copy is distinguished from another version.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

KIND = "github:"
_SOURCE = re.compile(r"github:([\w.-]+/[\w.-]+)@([0-9a-f]{40}):(.+)")
_FILE = re.compile(r"([\w./-]+)#([0-9a-f]{40})")


@dataclass(frozen=True)
class GitHubFile:
    """One file of a GitHub source."""

    repo: str
    commit: str
    path: str
    blob: str  # object id in git

    @property
    def url(self) -> str:
        return f"https://raw.githubusercontent.com/{self.repo}/{self.commit}/{self.path}"

    @property
    def checksum(self) -> str:
        return f"git {self.blob}"


def parse(source: str) -> list[GitHubFile]:
    """The files of a `github:` source, in order.

    Raises:
        ValueError: the source is malformed, or has no commit or object ids
    """
    place = _SOURCE.fullmatch(source)
    files = [_FILE.fullmatch(file) for file in place[3].split("+")] if place else []
    if not place or not all(files):
        raise ValueError(f"invalid GitHub source {source!r}: expected github:owner/repo@commit:path#id[+path#id]")
    return [GitHubFile(place[1], place[2], file[1], file[2]) for file in files if file]
