"""benchmarks/: every bench runs at tiny sizes without a peer; the committed table holds their rows alone."""
import json
import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


@pytest.fixture
def run(monkeypatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import run
    return run


def names(record: dict) -> dict:
    return {bench: [(row["work"], row["other"], row["unit"], row["target"]) for row in rows]
            for bench, rows in record["rows"].items()}


def test_every_benchmark_runs_without_peers_and_the_table_holds_exactly_its_rows(run, monkeypatch, tmp_path):
    monkeypatch.setattr(sys.modules["bench"], "optional", lambda name: None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick", "--out", str(tmp_path)])
    run.main()
    quick, table = (json.loads((folder / "table.json").read_text()) for folder in (tmp_path, BENCHMARKS))
    assert names(quick) == names(table)
    assert {f"bench_{name}" for name in run.BENCHES} == \
        {p.stem for p in BENCHMARKS.glob("bench_*.py")} - {"bench_scale"}  # it has a page of its own
    for row in (row for rows in quick["rows"].values() for row in rows):
        assert (row["ours"] or 0) > 0 or row["note"] == "awaits a GPU"
        assert row["theirs"] or row["note"] or not row["other"]
    assert "not run: pip install -r benchmarks/requirements.txt" in (tmp_path / "README.md").read_text()


def test_the_page_is_drawn_from_the_table(run):
    table = json.loads((BENCHMARKS / "table.json").read_text())
    assert (BENCHMARKS / "README.md").read_text() == run.page(table)


def test_a_row_says_whether_its_target_is_met(run):
    row = run.Row("work", "peer", "s", 2., 5., "3 x 1", 2.5)
    assert run.cells(row) == ["work", "2.00 s", "5.00 s", "peer", "2.50", "2.5, met", "3 x 1"]
    assert run.cells(row._replace(theirs=4.99))[5] == "2.5, **missed**"
    assert run.cells(row._replace(theirs=None, note="no peer"))[2:6] == ["no peer", "peer", "", "2.5"]


def test_quick_numbers_never_replace_the_table(run, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run.py", "--quick"])
    with pytest.raises(SystemExit, match="2"):
        run.main()
    assert "--out FOLDER" in capsys.readouterr().err
