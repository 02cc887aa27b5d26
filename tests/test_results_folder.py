"""Every committed record can be read, and README's tables are what the records say."""

import re
from pathlib import Path

import pytest

from vaebench import listing, records, tables

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"
RECORDS = sorted(RESULTS.glob("*/*/*.json"))
README = (ROOT / "README.md").read_text()
SHOWN = re.findall(r"<!-- results: (\S+)/(\S+)(?: without (\S+))? -->\n(.*?)<!-- end -->", README, re.DOTALL)


@pytest.mark.parametrize("file", RECORDS, ids=lambda file: f"{file.parent.name}/{file.stem}")
def test_a_committed_record_can_be_believed_on_its_own(file: Path):
    record = records.read(file)
    assert records.record_path(RESULTS, record.suite, record.setting, record.name) == file
    assert record.fingerprint
    assert record.machine["device"]
    assert record.machine["torch"]
    assert record.vae["weights"]
    for name, score in record.scores.items():
        assert score.value is not None or score.note, name
    if record.suite not in ("efficiency", "blockwise"):
        assert record.vae["weights"] != "random", "random weights have no place among the results"
    text = file.read_text()
    assert not re.search(r"(?<![\w.])/(home|root|work|tmp|Users|mnt)/", text), "a path of one machine"


@pytest.mark.parametrize(
    ("suite", "setting", "without", "shown"), SHOWN, ids=[f"{suite}/{setting}" for suite, setting, *_ in SHOWN]
)
def test_a_table_in_readme_is_what_the_records_say(suite: str, setting: str, without: str, shown: str):
    """README leaves out the rows of one family, `without`: those of codecs have a figure."""
    group = [record for record in records.read_all(RESULTS, suite) if record.setting == setting]
    group = [record for record in group if record.vae["family"] != without]
    assert group, f"README shows {suite}/{setting}, and there are no such records"
    assert shown.strip() == tables.render(group, "markdown").strip()


def test_the_committed_list_of_vaes_is_what_their_specs_say():
    assert (RESULTS / "vaes.md").read_text() == listing.adapters_markdown()
