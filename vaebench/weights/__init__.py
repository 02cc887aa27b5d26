"""Weight files of metrics and VAEs: the list of files (`registry`), their paths on this machine (`locate`), checksums (`verify`)
and downloads (`fetch`).

Files are downloaded only on request: `vaebench weights fetch NAME`, or `vaebench run ... fetch=true`.
"""

from vaebench.weights.locate import Unavailable, find, find_all, folders, half_of, halves_of, here, path
from vaebench.weights.registry import FILES, PACKAGE, RANDOM, UNRELEASED, HubFile, WeightFile, entry_of, used_by
from vaebench.weights.verify import digest, released, verified

__all__ = [
    "FILES",
    "PACKAGE",
    "RANDOM",
    "UNRELEASED",
    "HubFile",
    "Unavailable",
    "WeightFile",
    "digest",
    "entry_of",
    "find",
    "find_all",
    "folders",
    "half_of",
    "halves_of",
    "here",
    "path",
    "released",
    "used_by",
    "verified",
]
