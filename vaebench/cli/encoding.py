"""Print every table in every encoding, such as that of a Windows console or an ASCII locale."""

from __future__ import annotations

import codecs
import sys

# for output that is not UTF-8; other characters are printed as \u732b, so that different names stay different
ASCII = {"é": "e", "↑": "^", "↓": "v", "±": "+-", "─": "-", "·": "-", "—": "-", "…": "..."}


def print_in_any_encoding() -> None:
    """Replace characters that the encoding of stdout or stderr lacks, so that a finished table is always printed."""

    def replaced(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        characters = error.object[error.start : error.end]
        ascii_text = (ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in characters)
        return "".join(ascii_text), error.end

    codecs.register_error("vaebench", replaced)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a notebook's stream accepts every character
            stream.reconfigure(errors="vaebench")
