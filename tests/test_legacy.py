"""Run folders, atomic files, per-image rows, torchrun helpers."""
import argparse
import csv
import importlib
import json
import math
import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

import common
import legacy as results
from common import InputError
from legacy import (RowLog, atomic_write, figure_grid, read_arrays, load_checkpoint, result_row, save_arrays,
                     save_figure, slices, start_run, write_results)

ROOT = Path(__file__).resolve().parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def run_args(**changes):
    return argparse.Namespace(**{"seed": 0, "limit": None, "resume": False, "plot_only": False, "out": None,
                                 "workers": 2, "device": None, **changes})


def test_atomic_write_leaves_the_old_file_when_the_writer_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_write(path) as f:
        f.write("new, but")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_unwritable_folder_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"), atomic_write(tmp_path / "file" / "a.txt") as f:
        f.write("x")


@pytest.mark.parametrize("delay", [.02, .3])
def test_checkpoint_survives_kill_9(tmp_path, delay):
    path = tmp_path / "last.pt"
    code = ("import sys, torch; from results import save_checkpoint\n"
            "for i in range(10**6):\n"
            " save_checkpoint({'i': i, 'w': torch.full((400, 400), float(i))}, sys.argv[1])\n"
            " if i == 0: print('go', flush=True)")
    p = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, env=ENV)
    p.stdout.readline()
    time.sleep(delay)
    p.send_signal(signal.SIGKILL)
    p.wait()
    state = load_checkpoint(path)
    assert (state["w"] == state["i"]).all()


def test_checkpoint_that_asks_for_code_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return os.system, (f"touch {tmp_path}/pwned",)
    torch.save({"a": Evil()}, tmp_path / "evil.pt")
    with pytest.raises(InputError, match="not a readable checkpoint"):
        load_checkpoint(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_missing_checkpoint_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


ROWS = """
import sys, time
from common import init_distributed, rank_world, shard
from legacy import RowLog
init_distributed()
log = RowLog(sys.argv[1], resume=True)
for i in shard(range(40)):
    if f"img{i:02d}" not in log.done:
        log.add([{"image": f"img{i:02d}", "condition": c, "value": i / 7} for c in "ab"])
        time.sleep(float(sys.argv[2]))
assert log.merge(read=False) == []
"""


def test_rows_survive_kill_9_at_random_moments_and_resume_to_the_same_csv(tmp_path):
    (tmp_path / "rows.py").write_text(ROWS)
    def command(folder, pause):
        return [sys.executable, str(tmp_path / "rows.py"), str(folder), str(pause)]
    subprocess.run(command(tmp_path / "whole", 0), env=ENV, check=True)
    for _ in range(3):
        p = subprocess.Popen(command(tmp_path / "torn", .1), env=ENV)
        parts = tmp_path / "torn" / "per_image.part0.jsonl"
        while not parts.exists() and p.poll() is None:
            time.sleep(.01)
        time.sleep(random.uniform(0, .8))
        p.send_signal(signal.SIGKILL)
        p.wait()
        with open(parts, "ab") as f:  # the worst case: half a line was on its way
            f.write(b'[{"image": "img99", "cond')
    subprocess.run(command(tmp_path / "torn", 0), env=ENV, check=True)
    assert (tmp_path / "torn/per_image.csv").read_bytes() == (tmp_path / "whole/per_image.csv").read_bytes()
    assert sorted(p.name for p in (tmp_path / "torn").iterdir()) == ["per_image.csv"]


def test_two_torchrun_processes_write_the_rows_of_one(tmp_path):
    (tmp_path / "rows.py").write_text(ROWS)
    script = str(tmp_path / "rows.py")
    subprocess.run([sys.executable, script, str(tmp_path / "one"), "0"], env=ENV, check=True)
    subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2",
                    script, str(tmp_path / "two"), "0"], env=ENV, check=True, timeout=120,
                   capture_output=True)
    assert (tmp_path / "one/per_image.csv").read_bytes() == (tmp_path / "two/per_image.csv").read_bytes()


def test_a_fast_process_waits_for_hours_for_a_slow_one(monkeypatch):
    given = {}
    monkeypatch.setattr(common.dist, "init_process_group", lambda backend, **more: given.update(more))
    monkeypatch.setattr(common.dist, "get_rank", lambda: 0)
    monkeypatch.setattr(common.dist, "get_world_size", lambda: 1)
    for key in ("RANK", "WORLD_SIZE", "MASTER_ADDR"):
        monkeypatch.setenv(key, "0")
    common.init_distributed(torch.device("cpu"))
    assert given["timeout"].total_seconds() >= 12 * 3600  # torch's own: 30 minutes, on a GPU 10


def test_rows_of_a_finished_run_are_not_computed_again_nor_reformatted(tmp_path):
    log = RowLog(tmp_path)
    log.add([{"image": "b", "condition": "x", "value": 1 / 3},
             {"image": "b", "condition": "y", "value": float("nan")}])
    log.add([{"image": "a", "condition": "x", "value": 2}])
    rows = log.merge()
    assert [r["image"] for r in rows] == ["a", "b", "b"] and rows[1]["value"] == 1 / 3
    before = (tmp_path / "per_image.csv").read_bytes()
    again = RowLog(tmp_path, resume=True)
    assert again.done == {"a", "b"}
    again.merge()
    assert (tmp_path / "per_image.csv").read_bytes() == before
    assert RowLog(tmp_path).done == set()


def test_rows_that_would_corrupt_the_table_are_refused(tmp_path):
    log = RowLog(tmp_path)
    log.add([{"image": 7, "condition": "x", "value": np.float32(.5)}])  # ids are text, numpy numbers numbers
    for rows in ([], [{"image": "7", "condition": "y", "value": 1.}], [{"image": "8", "condition": "x"}],
                 [{"condition": "x", "value": 1.}], [{"image": "8", "value": 1., "condition": "x"}],
                 [{"image": i, "condition": "x", "value": 1.} for i in "ab"]):
        with pytest.raises(InputError, match="all rows of one image"):
            log.add(rows)
    log.add([{"image": "8", "condition": "x", "value": None}])
    rows = log.merge()
    assert [r["image"] for r in rows] == ["7", "8"]
    assert rows[0]["value"] == .5 and math.isnan(rows[1]["value"])


def test_a_kill_between_writing_the_table_and_removing_the_parts_loses_and_doubles_nothing(tmp_path):
    log = RowLog(tmp_path)
    for i in range(3):
        log.add([{"image": str(i), "condition": "x", "value": i / 3}])
    part = (tmp_path / "per_image.part0.jsonl").read_bytes()
    log.merge()
    table = (tmp_path / "per_image.csv").read_bytes()
    (tmp_path / "per_image.part0.jsonl").write_bytes(part)  # as a kill would leave it
    again = RowLog(tmp_path, resume=True)
    assert again.done == {"0", "1", "2"}
    again.merge()
    assert (tmp_path / "per_image.csv").read_bytes() == table


def test_a_table_is_merged_and_resumed_with_one_image_in_memory_at_a_time(tmp_path):
    log, row = RowLog(tmp_path), {f"value_{k}": k / 3 for k in range(60)}
    for i in range(200):
        log.add([{"image": str(i), "condition": str(c)} | row for c in range(10)])
    tracemalloc.start()
    log.merge(read=False)
    RowLog(tmp_path, resume=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < (tmp_path / "per_image.csv").stat().st_size / 2


def test_a_log_refuses_rows_without_its_two_first_columns(tmp_path):
    with pytest.raises(InputError, match="all rows of one image"):
        RowLog(tmp_path).add([{"image": "8", "value": 1.}])


def test_a_new_run_leaves_no_rows_that_a_later_resume_could_mix_in(tmp_path):
    start_run(run_args(out=tmp_path), "s", "t")
    RowLog(tmp_path).add([{"image": "a", "condition": "x", "value": 1}])
    start_run(run_args(out=tmp_path, seed=3), "s", "t")  # killed before its RowLog
    start_run(run_args(out=tmp_path, seed=3, resume=True), "s", "t")
    assert RowLog(tmp_path, resume=True).done == set()


@pytest.mark.parametrize("sub", ["", "runs/x"])
def test_a_run_inside_the_data_is_refused_before_anything_is_touched(tmp_path, sub):
    (tmp_path / "per_image.csv").write_text("the user's own")
    with pytest.raises(InputError, match="into the data"):
        start_run(run_args(out=tmp_path / sub, data=str(tmp_path)), "s", "t")
    assert [p.name for p in tmp_path.iterdir()] == ["per_image.csv"]


def test_a_new_run_removes_the_rows_of_its_parts_but_of_no_other_run(tmp_path):
    for run in ("one", "two"):
        start_run(run_args(out=tmp_path / run), "s", "t")
        RowLog(tmp_path / run / "sweep").add([{"image": "a", "condition": "x", "value": 1}])
    start_run(run_args(out=tmp_path / "one", seed=3), "s", "t")
    start_run(run_args(out=tmp_path), "s", "t")
    assert not list((tmp_path / "one" / "sweep").iterdir()) and list((tmp_path / "two" / "sweep").iterdir())


@pytest.mark.parametrize("resume", [False, True])
def test_halves_of_files_that_a_kill_left_go_when_the_run_starts_again(tmp_path, resume):
    start_run(run_args(out=tmp_path), "s", "t")
    (tmp_path / "sweep").mkdir()
    for name in (".last.pt.123.tmp", "sweep/.a.png.npz.123.tmp", ".mine.tmp", "notes.123.tmp"):
        (tmp_path / name).write_text("half")
    start_run(run_args(out=tmp_path, resume=resume), "s", "t")
    assert {p.name for p in tmp_path.rglob("*tmp")} == {".mine.tmp", "notes.123.tmp"}


def test_resume_on_rows_of_unknown_or_damaged_origin_is_refused(tmp_path):
    for file in ("per_image.csv", "last.pt"):
        (tmp_path / file).write_text("")
        with pytest.raises(InputError, match="no args.json"):
            start_run(run_args(out=tmp_path, resume=True), "s", "t")
        (tmp_path / file).unlink()
    (tmp_path / "args.json").write_text('{"seed": ')
    with pytest.raises(InputError, match="args.json"):
        start_run(run_args(out=tmp_path, resume=True), "s", "t")
    (tmp_path / "per_image.part0.jsonl").write_bytes(b"no rows\n")
    with pytest.raises(InputError, match="interrupted run"):
        RowLog(tmp_path, resume=True)


def test_damaged_tables_and_files_of_a_run_are_named_when_it_is_resumed(tmp_path):
    (tmp_path / "per_image.csv").write_text("image,condition,x\na,c,1\nb,c\n")
    with pytest.raises(InputError, match="a row of b that is not as long"):
        RowLog(tmp_path, resume=True)
    (tmp_path / "per_image.csv").unlink()
    a, b = ({"image": k, "condition": "c"} for k in "ab")
    for rows in ([[{"image": "a", "x": 1}]], [[a], [b | {"x": 1}]], [[a, 3]]):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "per_image.part0.jsonl").write_text(text)
        with pytest.raises(InputError, match="another --out"):
            RowLog(tmp_path, resume=True)
        assert (tmp_path / "per_image.part0.jsonl").read_text() == text
    np.savez(tmp_path / "a.npz", x=np.arange(9))
    raw = (tmp_path / "a.npz").read_bytes()
    for name, content in (("a.npz", raw[:-20]), ("a.npz", b""), ("a.json", b'{"a": '), ("a.json", b"\xff")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=f"{name}: .*whole"):
            (results.read_arrays if name == "a.npz" else results.read_json)(tmp_path / name)


def test_errors_about_other_files_are_not_blamed_on_the_output(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "a.txt"):
        open(tmp_path / "input.txt")


FULL = """
import resource, sys, torch
from legacy import RowLog, cli, save_checkpoint, write_json
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
def main():
    if sys.argv[2] == "checkpoint": save_checkpoint(torch.zeros(10**5), sys.argv[1] + "/a")
    if sys.argv[2] == "json": write_json("x" * 10**5, sys.argv[1] + "/a")
    if sys.argv[2] == "rows": RowLog(sys.argv[1]).add([{"image": "x" * 10**5, "condition": "c"}])
cli(main)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limits on file size")
@pytest.mark.parametrize("what", ["checkpoint", "json", "rows"])
def test_a_disk_that_takes_no_more_ends_in_one_line_and_status_2(tmp_path, what):
    p = subprocess.run([sys.executable, "-c", FULL, str(tmp_path), what], env=ENV, capture_output=True,
                       text=True)
    assert p.returncode == 2 and p.stderr.startswith("error: ") and p.stderr.count("\n") == 1, p.stderr
    assert not (tmp_path / "a").exists()


def test_gathered_rows_without_processes_are_the_rows():
    assert common.gather_rows([1, 2]) == [1, 2]


@pytest.mark.parametrize("text", ["a,b\n1\n", "a,b\n1,2,3\n"])
def test_ragged_csv_is_refused(tmp_path, text):
    (tmp_path / "r.csv").write_text(text)
    with pytest.raises(InputError, match="row 2 is not as long"):
        results.read_csv(tmp_path / "r.csv")


def test_json_takes_numpy_and_tensors_and_marks_infinity(tmp_path):
    results.write_json({"a": np.bool_(True), "b": np.arange(2), "c": torch.ones(1), "d": -math.inf},
                      tmp_path / "r.json")
    assert json.loads((tmp_path / "r.json").read_text()) == {"a": True, "b": [0, 1], "c": [1.0], "d": "-inf"}


@pytest.mark.parametrize("argv", [["--seed", "-1"], ["--limit", "0"], ["--batch-size", "0"],
                                  ["--workers", "-1"]])
def test_numbers_out_of_range_end_in_status_2(argv, capsys):
    parser = argparse.ArgumentParser()
    results.add_common_args(parser)
    with pytest.raises(SystemExit) as e:
        parser.parse_args(argv)
    assert e.value.code == 2 and "expected a whole number" in capsys.readouterr().err


def test_resume_with_other_arguments_is_refused_and_names_them(tmp_path):
    start_run(run_args(out=tmp_path), "s", "t")
    start_run(run_args(out=tmp_path, resume=True, workers=0), "s", "t")  # changes the speed, not the result
    with pytest.raises(InputError, match="seed 0 -> 3"):
        start_run(run_args(out=tmp_path, resume=True, seed=3), "s", "t")
    start_run(run_args(out=tmp_path), "s", "t", free=("seed",))
    start_run(run_args(out=tmp_path, resume=True, seed=3), "s", "t", free=("seed",))


def test_plot_only_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        start_run(run_args(out=tmp_path, plot_only=True), "s", "t")


@pytest.mark.parametrize("text", ["", "{", "[1]", "5", '{"headline": 3}', "{}"])
@pytest.mark.parametrize("script", ["exp03_biases", "exp04_saccades", "exp05_gaze_video", "exp05_train_vits",
                                    "exp06_gaze_objects"])
def test_plot_only_on_damaged_files_of_a_run_ends_in_one_sentence(tmp_path, script, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(InputError, match="the files of a finished run|No such file"):
        importlib.import_module(script).main(["--plot-only", "--out", str(tmp_path), "--device", "cpu"])
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("results.json", text)]


def test_results_hold_the_promised_fields_and_nan_becomes_null(tmp_path):
    head = [{"name": "accuracy", "paper": None, "ours": float("nan"), "ci": (1., 2.), "n": 3, "unit": "%"}]
    write_results(tmp_path, "exp", "demo", head, run_args(out=tmp_path), 1., torch.device("cpu"),
                  not_run=["UNISAL"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert {"study", "data", "headline", "tests", "not_run", "args", "versions", "git", "device",
            "seconds"} <= results.keys()
    assert results["headline"][0]["ours"] is None and results["headline"][0]["ci"] == [1, 2]


def test_table_shows_paper_ours_and_what_was_not_run(capsys):
    row = {"name": "top-1", "paper": 77., "ours": 12.345, "ci": (11., 13.), "n": 5, "unit": "%"}
    results.print_paper_vs_ours({"headline": [row], "not_run": ["UNISAL: no weights"], "data": "demo"})
    out = capsys.readouterr().out
    assert "12.35" in out or "12.34" in out
    results.print_paper_vs_ours({"headline": [{"name": "x", "ours": None, "ci": (None, None)}]})
    assert "77" in out and "11 to 13" in out and "not run: UNISAL" in out and "not the paper" in out


def test_input_error_ends_in_one_line_and_status_2(tmp_path):
    code = ("from common import InputError\n"
            "from results import cli\n"
            "def main(): raise InputError('found x; expected y; do z.')\ncli(main)")
    p = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert p.returncode == 2 and p.stderr == "error: found x; expected y; do z.\n"


def test_an_interrupt_behind_a_progress_bar_has_a_line_of_its_own_and_status_130(tmp_path):
    code = ("from tqdm import tqdm\nfrom results import cli\n"
            "def main():\n  for i in tqdm(range(3)): raise KeyboardInterrupt\ncli(main)")
    p = subprocess.run([sys.executable, "-c", code], env=ENV, capture_output=True, text=True)
    assert p.returncode == 130 and "Traceback" not in p.stderr
    assert sum(line.startswith("interrupted; ") for line in p.stderr.splitlines()) == 1


def test_unusable_device_is_an_input_error():
    with pytest.raises(InputError, match="--device"):
        common.pick_device("cuda:99")


def test_generators_are_functions_of_their_key():
    a, b, c = (torch.rand(3, generator=common.generator(*k)) for k in ((0, 1), (0, 1), (1, 0)))
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_csv_keeps_all_digits_and_text(tmp_path):
    rows = [{"image": "007", "condition": "a", "x": 1 / 3, "note": "é", "code": "00_1", "viewer": "01",
             "group": "1", "clip": "2", "part": "3"}]
    results.write_csv(rows, tmp_path / "r.csv")
    assert results.read_csv(tmp_path / "r.csv") == rows
    assert next(csv.reader(open(tmp_path / "r.csv", encoding="utf-8")))[:2] == ["image", "condition"]


# ---------------------------------------------------------------------------------------- shared pieces

def test_arrays_tensors_and_words_come_back_from_a_file(tmp_path):
    save_arrays(tmp_path / "a.npz", x=torch.arange(3.), y=np.ones((2, 2), bool), names=["a", "bc"])
    found = read_arrays(tmp_path / "a.npz")
    assert found["x"].dtype == np.float32 and found["x"].tolist() == [0, 1, 2] and found["y"].all()
    assert found["names"].tolist() == ["a", "bc"] and not list(tmp_path.glob(".*"))


def test_slices_cover_every_index_once():
    assert slices(range(5), 2) == [[0, 1], [2, 3], [4]] and slices(range(0), 3) == []


def test_a_row_of_the_table_is_a_mean_or_a_median_with_its_interval():
    row = result_row("x", [1., 2., 9.], "px", 3.3, np.median)
    assert row["ours"] == 2 and row["n"] == 3 and row["paper"] == 3.3 and row["ci"][0] <= 2 <= row["ci"][1]
    assert result_row("x", [1., 2., 9.], "px")["ours"] == 4


def test_a_new_run_removes_what_an_old_one_measured_and_nothing_else(tmp_path):
    (tmp_path / "sweep").mkdir()
    for name in ("a.npz", "notes.txt"):
        (tmp_path / "sweep" / name).write_text("old")
    start_run(run_args(out=tmp_path), "x", "t", parts=["sweep/*.npz"])
    assert [p.name for p in (tmp_path / "sweep").iterdir()] == ["notes.txt"]
    (tmp_path / "sweep" / "b.npz").write_text("new")
    start_run(run_args(out=tmp_path, resume=True), "x", "t", parts=["sweep/*.npz"])
    assert (tmp_path / "sweep" / "b.npz").exists()


def test_panels_with_labels_get_legends_and_pictures_lose_their_axes(tmp_path):
    fig, ((left, right),) = figure_grid(1, 2, 2, 2)
    left.plot([0, 1], label="line")
    right.plot([0, 1])
    save_figure(fig, tmp_path / "f", legends=True)
    assert left.get_legend() and not right.get_legend() and (tmp_path / "f.pdf").stat().st_size > 1000
    save_figure(fig, tmp_path / "f", pictures=True)
    assert not left.axison and not right.axison
