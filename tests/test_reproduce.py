"""reproduce.py: which runs, what is kept of them, the README's tables."""
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest

import reproduce as R
from common import InputError
from results import write_json

ROOT = Path(__file__).resolve().parents[1]
FIRST = {"study": "exp04", "data": "demo", "command": "exp04_saccades.py", "seconds": 80, "processes": 1,
         "memory_mb": 1100, "device": "cpu, 1 threads", "not_run": [],
         "headline": [{"name": "accuracy, full image", "paper": 77., "ours": 94.04, "ci": [90.5, 97.],
                       "n": 200, "unit": "%"},
                      *({"name": f"CC, {k}", "paper": None, "ours": v, "ci": None, "n": 9, "unit": ""}
                        for k, v in (("A", .1234), ("B", 2.)))]}
SECOND = FIRST | {"data": "imagenet", "seconds": None, "not_run": ["UNISAL: no weights"],
                  "headline": [{"name": "extra", "paper": "> 0", "ours": 1.5e-7, "ci": [None, None], "n": 3,
                                "unit": None, "verdict": "agrees"}]}


def pages(folder: Path, text: str | None = None) -> list[Path]:
    """Copies of README.md and docs/<study>.md in a folder, or pages of one text with every mark."""
    (folder / "docs").mkdir(exist_ok=True)
    files = [Path("README.md"), *(Path("docs", f"{study}.md") for study in R.SCRIPTS)]
    for file in files:
        (folder / file).write_text(text or (ROOT / file).read_text(encoding="utf-8"), encoding="utf-8")
    return files


def test_the_readme_and_the_pages_hold_the_tables_of_docs_results(tmp_path):
    files = pages(tmp_path)
    R.write_tables(ROOT / "docs" / "results", tmp_path)
    for file in files:
        assert (tmp_path / file).read_text(encoding="utf-8") == (ROOT / file).read_text(encoding="utf-8")


def test_the_readme_is_short_and_its_tables_have_at_most_six_rows():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 220
    for study in R.SHORTLIST:
        block = re.search(rf"<!-- table: {study} -->\n(.*?)<!-- end -->", text, re.DOTALL)[1]
        assert 1 <= len(block.splitlines()) - 2 <= 6, study


def test_every_study_has_a_demo_run_in_docs_results_without_paths_of_a_machine():
    for name in [name for name in R.RUNS if "_demo" in name]:
        run = json.loads((ROOT / "docs" / "results" / f"{name}.json").read_text(encoding="utf-8"))
        assert run["headline"] and run["command"].startswith(R.SCRIPTS[R.study_of(name)])
    for file in (ROOT / "docs" / "results").iterdir():
        assert not re.search(r'(?<![\w.:/])[~.]*/\w', file.read_text(encoding="utf-8"))


def test_a_column_a_run_and_a_row_a_number():
    lines = R.table([FIRST, SECOND], ".*").split("\n")
    assert lines[0] == "| | paper | demo | imagenet |"
    assert lines[2] == "| accuracy, full image | 77 | 94.04 (90.5 to 97) %, n 200 | - |"
    assert lines[3] == "| CC | - | A 0.1234, n 9<br>B 2, n 9 | - |"
    assert lines[4] == "| extra | > 0 | - | 1.5e-07, n 3, agrees |"
    assert R.costs([FIRST, SECOND]).split("\n") == [
        "* demo: `python exp04_saccades.py` (80 s, 1,100 MB, cpu, 1 threads)",
        "* imagenet: `python exp04_saccades.py` (1,100 MB, cpu, 1 threads); not run: UNISAL: no weights"]
    assert "extra" not in R.table([FIRST, SECOND], "acc.*")
    none = FIRST | {"headline": [FIRST["headline"][0] | {"paper": None}]}
    assert "| accuracy, full image | 77 |" in R.table([FIRST, none], "acc.*")  # one run has the paper's


def test_claims_that_are_undecided_or_differ_are_rows_like_those_that_agree():
    row = {"paper": "> 0", "ours": 1., "ci": [0., 2.], "n": 3, "unit": ""}
    words = [row | {"name": f"claim {k}", "verdict": k} for k in ("agrees", "undecided", "differs")]
    made = R.table([FIRST | {"headline": words}], ".*")
    assert all(f", {k} |" in made for k in ("agrees", "undecided", "differs"))
    for file in (ROOT / "docs" / "results").glob("*.json"):
        run = json.loads(file.read_text(encoding="utf-8"))
        made = R.table([run], ".*")
        assert [row["name"] for row in run["headline"] if R.cell(row) not in made] == []


def test_the_runs_are_those_whose_data_are_there(tmp_path):
    for name in ("salicon", "coco", "osie"):
        (tmp_path / name).mkdir()
    runs, absent = R.find_runs(tmp_path, Path("out"), False)
    argv = {name: " ".join(a).replace(str(tmp_path), "D") for name, a in runs.items() if "demo" not in name}
    assert argv == {"exp01_salicon": "--salicon D/salicon --coco D/coco", "exp02_osie": "--salicon D/osie",
                    "exp02_salicon": "--salicon D/salicon --coco D/coco", "exp06_osie": "--data D/osie",
                    "exp01_osie": "--salicon D/osie --model dinov2_vits14 --lr 1e-4 --epochs 2 "
                                  "--eval-every 14",
                    "exp06_osie-blur": "--data D/osie --blur attention",
                    "exp03_salicon": "--salicon D/salicon --coco D/coco "
                                     "--model-b out/exp01_salicon/tuned_B.pth "
                                     "--model-c out/exp01_salicon/tuned_C.pth"}
    assert [*absent] == ["exp04_imagenette", "exp04_imagenet", "exp04_imagenet-sweep", "exp04_animals",
                         "exp04_superclasses", "exp05_n2010", "exp05_cw2019", "exp06_objects"]
    assert absent["exp04_imagenet-sweep"] == "imagenet"


def test_cw2019_is_compared_with_the_n2010_run_where_there_is_one(tmp_path):
    (tmp_path / "cw2019").mkdir()
    assert "--compare" not in R.find_runs(tmp_path, Path("out"), False)[0]["exp05_cw2019"]
    (tmp_path / "n2010").mkdir()
    runs, _ = R.find_runs(tmp_path, Path("out"), False)
    assert runs["exp05_cw2019"] == ["--data", f"{tmp_path}/cw2019", "--compare", "out/exp05_n2010"]
    assert list(runs).index("exp05_n2010") < list(runs).index("exp05_cw2019")


def test_arguments_of_all_runs_pass_the_scripts_parsers(tmp_path):
    for name in R.FOLDERS:
        (tmp_path / name).mkdir()
    for short in (False, True):
        for name, argv in R.find_runs(tmp_path, Path("out"), short)[0].items():
            importlib.import_module(R.SCRIPTS[R.study_of(name)].removesuffix(".py")).parse(argv)


def test_what_is_kept_names_no_folder_of_the_machine_and_joins_the_parts_of_a_run(tmp_path):
    folder = tmp_path / "run"
    argv = ["exp04_saccades.py", "--data", str(tmp_path / "imagenet"), "--weights=/a/b/c.pth", "--maps",
            "../x/m"]
    write_json({"argv": argv, "seconds": 3.6, "memory_mb": 9.2, "resumed": False, "processes": 1},
               folder / "reproduce.json")
    parts = ["UNISAL: put it at /root/.cache/w.pth (1/2)", "no and/or, 3.5 px/s, https://a.org/b/c.pth"]
    write_json(FIRST | {"versions": {}, "git": "1", "not_run": parts[:1]}, folder / "results.json")
    write_json(SECOND | {"versions": {}, "git": "1", "not_run": parts[1:]}, folder / "part/results.json")
    kept = R.summary("exp04_imagenet", folder, tmp_path)
    assert kept["command"] == "exp04_saccades.py --data DATA/imagenet --weights=c.pth --maps m"
    assert kept["seconds"] == 4 and kept["not_run"] == ["UNISAL: put it at w.pth (1/2)", parts[1]]
    assert [row["name"] for row in kept["headline"]] == ["accuracy, full image", "CC, A", "CC, B", "extra"]


def test_wrong_arguments_are_told(capsys):
    with pytest.raises(InputError, match="no such folder"):
        R.main(["--data", "/nowhere"])
    with pytest.raises(SystemExit, match="2"):
        R.main(["--only", "exp7"])
    said = capsys.readouterr().err
    assert "--only" in said and "'exp7'" in said and "exp04_demo" in said


def test_open_data_are_downloaded_after_a_yes_and_not_without(tmp_path, monkeypatch, capsys):
    got, answers = [], iter(["", "y"])
    monkeypatch.setattr("builtins.input", lambda asked: print(asked) or next(answers))
    monkeypatch.setattr(R.download, "data_folder", lambda name: got.append(name) or tmp_path / name)
    monkeypatch.setattr(R, "locate_weights", lambda spec: got.append(spec))
    with pytest.raises(InputError, match="nothing was downloaded"):
        R.get_open_data()
    assert not got and "osie" in capsys.readouterr().out
    assert R.get_open_data() == tmp_path and got[:2] == ["imagenette", "osie"]
    assert got[2:] == [R.WEIGHTS[name] for name in R.download.WEIGHT_SIZES]
    total = sum(R.download.WEIGHT_SIZES.values()) + 326 + 80
    assert f"{total} MB? [y/N]" in capsys.readouterr().out and total > 1000  # more than 1 GB is asked for


SCRIPT = """
import json, pathlib, sys
out = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
with open("log.txt", "a") as f:
    print(" ".join(sys.argv[1:-1]) if sys.argv[-2] == "--out" else " ".join(sys.argv[1:]), file=f)
(out / "args.json").write_text("{}")
if "--resume" not in sys.argv:
    sys.exit(2)
(out / "results.json").write_text(json.dumps(RESULT))
"""


def test_a_failed_run_is_told_then_resumed_and_a_finished_one_is_not_run_again(tmp_path, monkeypatch, capfd):
    made = FIRST | {"versions": 1, "git": "", "headline": [FIRST["headline"][0] | {"name": "size, A: d"}]}
    (tmp_path / "exp03_biases.py").write_text(SCRIPT.replace("RESULT", repr(made)))
    monkeypatch.setattr(R, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    argv = ["--only", "exp03", "--out", "out", "--short"]
    with pytest.raises(SystemExit, match=r"exp03_demo \(status 2\) failed"):
        R.main(argv)
    R.main(argv)
    R.main(argv)
    said, runs = capfd.readouterr().out, (tmp_path / "log.txt").read_text().split("\n")
    assert len(runs) == 3 and "--resume" not in runs[0] and runs[1].endswith("--resume") and not runs[2]
    assert "exp03_demo: done before" in said and "not run: exp03_salicon, no DATA/salicon" in said
    assert "| size, A: d | 77 |" in said and "exp04" not in said
    kept = json.loads((tmp_path / "out/results/exp03_demo.json").read_text())
    assert kept["command"] == "exp03_biases.py --limit 24" and kept["seconds"] is None  # not of the whole
    (tmp_path / "out/exp03_demo/results.json").unlink()  # gone, so it is made again
    R.main(argv)
    assert (tmp_path / "log.txt").read_text().count("\n") == 3
    command = ["exp03_biases.py", *shlex.split("--limit 24")]
    assert R.is_done(command, tmp_path / "out/exp03_demo")
    assert not R.is_done(command[:-1], tmp_path / "out/exp03_demo")
    with pytest.raises(SystemExit, match="needs data"):
        R.main(["--only", "exp04_imagenet", "--out", "out", "--short"])


def test_a_block_without_its_end_is_told_and_nothing_is_cut(tmp_path):
    blocks = "".join(f"<!-- table: {s} -->\nold\n<!-- end -->\n" for s in R.SCRIPTS)
    pages(tmp_path, blocks)
    write_json(FIRST, tmp_path / "exp04_demo.json")
    write_json(FIRST, tmp_path / "exp04_forgotten.json")
    R.write_tables(tmp_path, tmp_path)
    for file in ("README.md", "docs/exp04.md"):
        text = (tmp_path / file).read_text()
        assert text.count("| accuracy, full image | 77 | 94.04") == 1
        assert text.count("old") == len(R.SCRIPTS) - 1  # of the studies without results
    assert "CC" in (tmp_path / "docs/exp04.md").read_text()
    assert "CC" not in (tmp_path / "README.md").read_text()
    broken = blocks.replace("exp04 -->\nold\n<!-- end -->", "exp04 -->\nold\n")
    pages(tmp_path, broken)
    with pytest.raises(InputError, match="table: exp04"):
        R.write_tables(tmp_path, tmp_path)
    assert (tmp_path / "docs/exp04.md").read_text() == broken
