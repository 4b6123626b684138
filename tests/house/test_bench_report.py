"""What benchmarks print, write and exit with."""

import json

from bench import report


def test_a_missed_bar_ends_the_process_with_1_and_stands_in_the_file(tmp_path, capsys):
    options = report.parser("A test.").parse_args(["--json", str(tmp_path / "out.json")])
    result = report.Report("sample", options)
    result.add("fast enough", 130, "entries/s", at_least=125)
    result.add("gas", 42_001, "gas", at_most=42_000)
    result.add("peer", 1.5, "x")

    assert result.finish() == 1

    assert "MISSED" in capsys.readouterr().out
    written = json.loads((tmp_path / "out.json").read_text())
    assert [one["holds"] for one in written["figures"]] == [True, False, None]
    assert [one["bar"] for one in written["figures"]] == [125, 42_000, None]
    assert written["holds"] is False
    assert written["machine"]["cpu"]


def test_held_bars_end_it_with_0(capsys):
    result = report.Report("sample")
    result.add("fast enough", 125, "entries/s", at_least=125)

    assert result.finish() == 0
    assert "holds" in capsys.readouterr().out


def test_peers_take_turns_and_every_second_round_runs_backwards():
    order = []

    def peer(name):
        return lambda: order.append(name) or float(len(order))

    runs = report.interleave({"a": peer("a"), "b": peer("b")}, rounds=2)

    assert order == ["a", "b", "b", "a"]
    assert runs == {"a": [1.0, 4.0], "b": [2.0, 3.0]}
    assert report.ratio(runs["a"], runs["b"]) == (1 / 2 + 4 / 3) / 2
