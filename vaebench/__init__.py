"""The benchmark of video VAEs.  Importing it is cheap: its functions are loaded when they are first used."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vaebench.tables import results as results

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "results":
        from vaebench.tables import results

        return results
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
