"""The reject file can be opened by a program and by a spreadsheet without harm."""

import csv
import io
import json

from datanets.ingest import rejects
from datanets.ingest.faults import Fault

FAULTS = [
    Fault(row=2, column="answer", code="BLANK", message="It is empty.", raw={"answer": ""}),
    Fault(row=3, code="JSON", message="=1+1", raw='=HYPERLINK("http://x")'),
]


def test_jsonl_holds_the_row_as_it_was() -> None:
    read = [json.loads(line) for line in rejects.as_jsonl(FAULTS)]
    assert read[0]["data"] == {"answer": ""}
    assert [line["row"] for line in read] == [2, 3]


def test_csv_runs_no_formula() -> None:
    lines = (json.loads(line) for line in rejects.as_jsonl(FAULTS))
    text = b"".join(rejects.as_csv(lines)).decode()
    rows = list(csv.reader(io.StringIO(text)))
    assert rows[0] == ["_row", "_column", "_code", "_reason", "data"]
    assert all(not cell.startswith(rejects.FORMULA_STARTS) for row in rows for cell in row)
