"""A command of the parser: its help lists settings in groups and ends with examples."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, TypeAlias

from vaebench.settings import BOOLEANS

FORMATS = ("text", "markdown", "latex", "csv", "json")  # of tables, as `vaebench.tables.FORMATS`
HOW = "Settings are key=value words. Lists: {key}={items} or '{key}=[{items}]'."


class Verb(argparse.ArgumentParser):
    """A command whose help lists the settings of each argument group and ends with examples.

    Both are collected only when the help is printed.
    """

    listed = ""  # name of the function in vaebench.help that returns {title of a group: its settings}
    examples = ""  # key of vaebench.help.EXAMPLES

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)
        self.groups: dict[str, argparse._ArgumentGroup] = {}

    def group(self, title: str) -> argparse._ArgumentGroup:
        """The argument group called `title`, created on the first call."""
        if title not in self.groups:
            self.groups[title] = self.add_argument_group(title)
        return self.groups[title]

    def format_help(self) -> str:
        from vaebench import help as texts

        if self.listed:
            for title, text in getattr(texts, self.listed)().items():
                self.group(title).description = text
        if self.examples:
            self.epilog = texts.examples(self.examples)
        return super().format_help()


Verbs: TypeAlias = "argparse._SubParsersAction[Verb]"  # what `add_subparsers` returns: the place to add a command


def asks_for_traceback(words: Sequence[str]) -> bool:
    """Whether the words of a command set `fail_fast=true`; its own parser refuses an invalid value."""
    values = [word.partition("=")[2] for word in words if word.startswith("fail_fast=")]
    return bool(values) and BOOLEANS.get(values[-1].strip().lower(), False)
