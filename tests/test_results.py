"""results.py: a kill costs one batch, nothing finished is destroyed, a claim says what its interval says."""
import csv
import gc
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

import results as R
from common import InputError, bootstrap_ci, mcnemar, paired_t, rank_world
from processes import Ended, fork, in_group, python
from results import Claim

ROOT = Path(__file__).resolve().parents[1]
CARD = "study: one sentence.\n\nCommands\n    laptop    python study.py\n"


def parser():
    p = R.argument_parser("study.py", CARD)
    p.add_argument("--fovea", type=int, nargs="+", default=[3, 5])
    p.add_argument("--layer", dest="block", type=int)
    p.add_argument("--salicon", type=Path)
    p.add_argument("--sweep", action="store_true")
    return p


def arguments(*words, out: Path | None = None):
    return R.parse_args(parser(), [*words, *(["--out", str(out)] if out else [])])


@pytest.fixture(scope="module")
def coarse_figures() -> None:
    """Not here: figures as users get them."""


def nothing(arrays, results, folder):
    """A study without figures."""


def complete(args, value: float = 1.) -> None:
    """A run from begin to finish."""
    R.begin(args, ["a", "b"], model=Path(__file__))
    rows = [dict(image=image, condition=condition, x=value) for image in "ab" for condition in "ABc"]
    R.finish(args, "study", dict(x=np.array([value])), rows, [], nothing, time.time(), torch.device("cpu"))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


# ------------------------------------------------------------------------------------------------ folders

def test_the_folder_says_what_differs_from_the_defaults():
    assert arguments().out == Path("runs/study/demo")
    words = "--fovea 5 --layer 11 --limit 40".split()
    assert arguments(*words).out.name == "demo_limit40_fovea5_block11"
    assert arguments("--sweep", "--resume", "--device", "cpu", "--workers", "0").out.name == "demo_sweep"


def test_folders_of_one_name_in_two_places_never_share_a_run(tmp_path):
    names = {arguments("--salicon", str(tmp_path / k / "osie")).out.name for k in "ab"}
    assert len(names) == 2 and all(name.startswith("salicon-osie-") for name in names)
    names = {arguments("--data", str(tmp_path / k / "imagenet")).out.name for k in "ab"}
    assert len(names) == 2 and all(name.startswith("imagenet-") for name in names)


def test_long_names_are_cut_and_stay_apart():
    names = {arguments("--fovea", *["3"] * 50, last).out.name for last in "57"}
    assert len(names) == 2 and all(len(name) <= 60 for name in names)


def test_a_data_set_named_on_its_own_replaces_the_demo(tmp_path):
    assert arguments("--salicon", str(tmp_path)).data is None and arguments().data == "demo"


def test_what_is_not_asked_for_is_the_demos_or_the_papers_and_0_was_asked_for():
    for words, block in (([], 5), (["--data", "FOLDER"], 11), (["--layer", "0"], 0)):
        assert R.parse_args(parser(), words, dict(block=11), dict(block=5)).block == block


@pytest.mark.parametrize("argv", [["--limit", "0"], ["--batch-size", "0"], ["--seed", "-1"],
                                  ["--limit", "x"]])
def test_numbers_out_of_range_end_in_status_2(argv, capsys):
    with pytest.raises(SystemExit) as e:
        arguments(*argv)
    assert e.value.code == 2 and argv[0] in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [
    ["--fovea", "7"], ["--limit", "2"], ["--seed", "1"], ["--batch-size", "3"], ["--limit", "2", "--resume"],
    ["--weights", "other.pth"]])
def test_a_finished_run_stays_whole_when_other_arguments_name_its_folder(tmp_path, wrong):
    complete(arguments(out=tmp_path / "run"))
    before = contents(tmp_path / "run")
    args = arguments(*wrong, out=tmp_path / "run")
    with pytest.raises(InputError, match="other arguments .*choose another --out"):
        R.only_draw(args) or R.begin(args, ["a", "b"], model=Path(__file__))
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize("items, model", [(["a", "other"], Path(__file__)), (["a", "b"], ROOT / "LICENSE")],
                         ids=["items", "weights"])
def test_other_items_or_weights_are_never_mixed_with_what_is_there(tmp_path, items, model):
    args = arguments("--resume", out=tmp_path)
    R.save_arrays(R.begin(args, ["a", "b"], model=Path(__file__)) / "part" / "00000.npz", x=[1])
    with pytest.raises(InputError, match="items|hashes"):
        R.begin(args, items, model=model)
    assert (tmp_path / "unfinished/part/00000.npz").exists()


def test_another_scripts_run_is_left_whole(tmp_path):
    complete(arguments(out=tmp_path))
    before = contents(tmp_path)
    other = R.parse_args(R.argument_parser("other.py", CARD), ["--out", str(tmp_path)])
    with pytest.raises(InputError, match="script study -> other"):
        R.begin(other, ["a", "b"], model=Path(__file__))
    with pytest.raises(InputError, match="script study -> other"):
        other.plot_only = True
        R.only_draw(other)
    assert contents(tmp_path) == before


def test_tables_that_changed_under_the_same_name_are_never_mixed(tmp_path):
    gaze, image = tmp_path / "fixations.json", tmp_path / "a.jpg"
    gaze.write_text("[1, 2]")
    image.write_bytes(b"abc")
    args = arguments("--resume", out=tmp_path / "run")
    R.begin(args, [gaze, image])
    R.begin(args, [gaze, image])
    gaze.write_text("[1, 3]")  # as long as before
    with pytest.raises(InputError, match="items"):
        R.begin(args, [gaze, image])
    gaze.write_text("[1, 2]")
    image.write_bytes(b"abcd")
    with pytest.raises(InputError, match="items"):
        R.begin(args, [gaze, image])


def test_weights_that_changed_at_the_same_path_are_noticed_on_resume_of_a_finished_run(tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_bytes(b"1")
    words = ["--weights", str(weights), "--resume"]
    complete(arguments(*words, out=tmp_path / "run"))
    assert R.only_draw(arguments(*words, out=tmp_path / "run"))
    weights.write_bytes(b"2")
    with pytest.raises(InputError, match="weights"):
        R.only_draw(arguments(*words, out=tmp_path / "run"))


def test_one_data_folder_has_one_name_however_it_is_written(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    monkeypatch.chdir(tmp_path)
    ways = [str(tmp_path / "set"), f"{tmp_path}/set/", "set", "./set"]
    assert len({R.fixed_args(arguments("--data", way))["data"] for way in ways}) == 1
    assert len({arguments("--data", way).out for way in ways}) == 1


def test_words_of_the_command_are_never_abbreviated(capsys):
    with pytest.raises(SystemExit):
        arguments("--sweeps"[:5])
    assert "unrecognized" in capsys.readouterr().err


def test_a_run_killed_while_it_writes_its_results_is_completed_not_drawn(tmp_path):
    complete(arguments(out=tmp_path))
    R.begin(arguments(out=tmp_path), ["a", "b"], model=Path(__file__))
    late = time.time() + 10
    os.utime(tmp_path / "arrays.npz", (late, late))
    with pytest.raises(InputError, match="--resume completes it"):
        R.only_draw(arguments("--plot-only", out=tmp_path))


def test_an_unfinished_run_wants_resume_and_says_so(tmp_path):
    R.begin(arguments(out=tmp_path), ["a"])
    with pytest.raises(InputError, match="unfinished run .*--resume"):
        R.begin(arguments(out=tmp_path), ["a"])
    assert R.begin(arguments("--resume", out=tmp_path), ["a"]) == tmp_path / "unfinished"


def test_a_finished_run_is_measured_beside_the_old_results_until_the_new_ones_are_complete(tmp_path):
    args = arguments(out=tmp_path)
    complete(args, 1.)
    before = contents(tmp_path)
    R.begin(args, ["a", "b"], model=Path(__file__))
    assert {k: v for k, v in contents(tmp_path).items()} == before  # killed here, the old results stand
    R.finish(args, "study", dict(x=np.array([2.])), [dict(image="a", condition="c", x=2.)], [], nothing,
             time.time(), torch.device("cpu"))
    assert R.read_arrays(tmp_path / "arrays.npz")["x"] == [2.]
    assert not (tmp_path / "unfinished").exists()


def test_resume_of_a_finished_run_only_draws(tmp_path):
    complete(arguments(out=tmp_path))
    assert R.only_draw(arguments("--resume", out=tmp_path))
    assert R.only_draw(arguments("--plot-only", out=tmp_path))
    assert not R.only_draw(arguments(out=tmp_path))


def test_plot_only_without_a_run_is_refused(tmp_path):
    with pytest.raises(InputError, match="no finished run"):
        R.only_draw(arguments("--plot-only", out=tmp_path))


def test_results_of_unknown_origin_are_not_overwritten(tmp_path):
    (tmp_path / "results.json").write_text("{}")
    with pytest.raises(InputError, match="without their args.json"):
        R.begin(arguments(out=tmp_path), ["a"])


@pytest.mark.parametrize("sub", ["", "runs", "a/b"])
def test_a_run_inside_the_data_is_refused_before_anything_is_touched(tmp_path, sub):
    with pytest.raises(InputError, match="into the data"):
        R.begin(arguments("--salicon", str(tmp_path), out=tmp_path / sub), ["a"])
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------------ in_batches

class Numbers(torch.utils.data.Dataset):
    def __len__(self):
        return 7

    def __getitem__(self, i):
        return dict(x=float(i), name=f"item{i}")


def squares(batch):
    return dict(square=batch["x"] ** 2, word=np.array(batch["name"]))


def test_batches_are_joined_in_order(tmp_path):
    found = R.in_batches(tmp_path, Numbers(), 3, squares)
    assert found["square"].tolist() == [0, 1, 4, 9, 16, 25, 36] and found["word"][6] == "item6"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["00000.npz", "00001.npz", "00002.npz"]


def test_a_batch_that_is_there_is_not_measured_again(tmp_path):
    R.in_batches(tmp_path, Numbers(), 3, squares)
    (tmp_path / "00001.npz").unlink()
    seen = []

    def measure(batch):
        seen.append(batch["x"].tolist())
        return squares(batch)
    found = R.in_batches(tmp_path, Numbers(), 3, measure)
    assert seen == [[3, 4, 5]] and found["square"].tolist() == [0, 1, 4, 9, 16, 25, 36]


class Collected(Numbers):
    """As Numbers, but garbage is collected where an item is read."""
    def __getitem__(self, i):
        gc.collect()
        return super().__getitem__(i)


class Decoder:
    """With threads of its own, which only its process can end."""
    def __init__(self, log: Path):
        self.log, self.itself = log, self

    def __del__(self):
        self.log.write_text(str(os.getpid()))


def test_a_worker_ends_no_decoder_of_the_main_process(tmp_path):
    gc.disable()
    try:
        Decoder(tmp_path / "ended by")  # garbage at once, but in a cycle
        R.in_batches(tmp_path, Collected(), 7, squares, 1)
    finally:
        gc.enable()
    assert (tmp_path / "ended by").read_text() == str(os.getpid())


class Sevenths(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 32

    def __getitem__(self, i: int) -> int:
        return i


def study(folder: Path, pause: float) -> None:
    def measure(i):
        time.sleep(pause)
        return dict(x=i / 7)
    found = R.in_batches(folder / "batches", Sevenths(), 1, measure)
    if rank_world()[0] == 0:
        R.save_arrays(folder / "arrays.npz", **found)


@pytest.mark.parametrize("processes", [1, 2])
def test_killed_and_finished_by_any_processes_equals_an_undisturbed_run(tmp_path, processes):
    in_group(1, study, tmp_path / "whole", 0)
    for kill_at in (4, 19):
        p = fork(study, tmp_path / "torn", .02)
        while len(list((tmp_path / "torn").glob("batches/*.npz"))) < kill_at and p.is_alive():
            time.sleep(.005)
        p.kill()
        p.join()
    assert not (tmp_path / "torn/arrays.npz").exists()
    in_group(processes, study, tmp_path / "torn", 0)
    assert (tmp_path / "torn/arrays.npz").read_bytes() == (tmp_path / "whole/arrays.npz").read_bytes()


def test_damaged_batches_are_named(tmp_path):
    (tmp_path / "00000.npz").write_bytes(b"PK\x03\x04 half a file")
    with pytest.raises(InputError, match="00000.npz"):
        R.in_batches(tmp_path, Numbers(), 7, squares)


# ------------------------------------------------------------------------------------------------ files

def test_atomic_write_leaves_the_old_file_when_the_writer_fails(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), R.atomic_write(path) as f:
        f.write("new, but")
        raise RuntimeError
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_unwritable_folder_is_an_input_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--out"), R.atomic_write(tmp_path / "file" / "a.txt") as f:
        f.write("x")


def test_json_takes_numpy_and_tensors_and_marks_infinity(tmp_path):
    values = {"a": np.float32(.5), "b": torch.tensor([1, 2]), "c": math.nan, "d": [-math.inf], "e": Path("x")}
    R.write_json(values, tmp_path / "a.json")
    assert R.read_json(tmp_path / "a.json") == {"a": .5, "b": [1, 2], "c": None, "d": ["-Infinity"], "e": "x"}


def test_file_names_that_are_no_utf_8_survive_in_json_csv_arrays_and_hash(tmp_path):
    name = b"caf\xe9.jpg".decode("utf-8", "surrogateescape")  # Latin-1
    R.write_json({"name": name}, tmp_path / "a.json")
    R.write_csv([dict(image=name)], tmp_path / "a.csv")
    R.save_arrays(tmp_path / "a.npz", name=[name])
    assert R.read_json(tmp_path / "a.json")["name"] == name == R.read_arrays(tmp_path / "a.npz")["name"][0]
    assert b"caf\xe9.jpg" in (tmp_path / "a.csv").read_bytes() and R.digest([name]) != R.digest(["caf.jpg"])


def test_csv_keeps_all_digits_and_leaves_nan_empty(tmp_path):
    R.write_csv([dict(image="01", condition="a", x=1 / 3), dict(image="02", condition="a", x=math.nan)],
                tmp_path / "a.csv")
    rows = list(csv.DictReader(open(tmp_path / "a.csv")))
    assert float(rows[0]["x"]) == 1 / 3 and rows[1]["x"] == "" and rows[0]["image"] == "01"


def test_a_hash_tells_weights_files_and_names_apart(tmp_path):
    a, b = torch.nn.Linear(2, 2), torch.nn.Linear(2, 2)
    assert R.digest(a) == R.digest(a) != R.digest(b)
    (tmp_path / "a").write_text("x")
    assert R.digest(tmp_path / "a") != R.digest(["x"]) != R.digest(["x", ""]) != R.digest(["", "x"])
    assert len(R.digest([])) == 16


def test_same_figure_same_bytes_and_two_formats(tmp_path):
    fig, axes = R.figure_grid(1, 2)
    axes[0, 0].plot([1, 2])
    R.save_figure(fig, tmp_path / "a")
    R.save_figure(fig, tmp_path / "b")
    assert isinstance(fig, Figure) and axes.shape == (1, 2)
    for kind in ("png", "pdf"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()


def test_a_title_wider_than_the_figure_is_not_cut(tmp_path):
    fig, axes = R.figure_grid(1, 1, 1, 1)
    axes[0, 0].set_title("a title far wider than its panel")
    R.save_figure(fig, tmp_path / "a")
    grey = np.asarray(Image.open(tmp_path / "a.png").convert("L"))
    assert (grey[:, [0, -1]] == 255).all() and grey.shape[1] > 200 > 150 * fig.get_figwidth()


def test_every_figure_of_a_run_says_data_model_and_n(tmp_path):
    args = arguments("--limit", "1", out=tmp_path)
    R.begin(args, ["a", "b"], model=Path(__file__))
    rows = [dict(image=name, condition=c) for name in "ab" for c in "AB"]
    found = []

    def draw(arrays, results, folder):
        fig, _ = R.figure_grid(1, 1, 12.)
        R.save_figure(fig, folder / "fig")
        found.extend(text.get_text() for text in fig.texts)
    R.finish(args, "study", {}, rows, [], draw, time.time(), torch.device("cpu"), model="some_vit")
    assert found == ["built-in demo world; some_vit; n = 2 images; A: before tuning; "
                     "B: tuned on where people looked"]


def test_a_folder_given_for_data_is_named_in_small_print():
    run = dict(args=dict(data=None, salicon="/somewhere/SALICON"), data="files", images=3, model="m")
    assert R.small_print(run) == "SALICON; m; n = 3 images"


# ------------------------------------------------------------------------------------------------ claims

def test_results_hold_the_promised_fields(tmp_path):
    complete(arguments(out=tmp_path))
    found = json.loads((tmp_path / "results.json").read_text())
    assert {"study", "data", "headline", "tests", "not_run", "args", "versions", "git", "device",
            "seconds"} <= set(found)
    assert found["images"] == 2 and found["tuned"] == ["A", "B"]


@pytest.mark.parametrize("paper, low, high, said", [
    ("> 0", .1, 2, "agrees"), ("> 0", -.1, 2, "undecided"), ("> 0", -2, -.1, "differs"),
    ("< 0", -2, -.1, "agrees"), ("< 0", .1, 2, "differs"), ("< 0", -.1, 2, "undecided"), ("> 6.0", 5, 7, "undecided"),
    ("> 6.0", 6.1, 7, "agrees"),
    ("about 5", 3.1, 6.9, "agrees"), ("about 5", 2, 6, "undecided"), ("about 5", 7.1, 9, "differs"),
    ("about 5", -1, 2.9, "differs"), (5.0, 4, 6, ""), (None, 4, 6, ""), ("12 of 12", 1, 2, "")])
def test_the_verdict_is_the_side_on_which_the_whole_interval_lies(paper, low, high, said):
    assert R.verdict(paper, low, high) == said


def test_where_the_paper_has_a_p_ours_must_be_as_small_to_agree():
    for p, said in ((.0009, "agrees"), (.0011, "undecided"), (np.nan, "undecided")):
        assert R.verdict("> 1, p < .001", 1.5, 3, p) == said
    assert R.verdict("< 1, p < .001", 1.5, 3, .0009) == "differs" == R.verdict("< 1, p < .001", 1.5, 3, .0011)


def test_an_estimate_is_a_mean_or_a_median_with_its_bootstrap_interval():
    x = np.array([1., 2., 2., 7.])
    assert R.estimate(x) == dict(ours=3., ci=bootstrap_ci(x), n=4)
    assert R.estimate(x, np.median) == dict(ours=2., ci=bootstrap_ci(x, np.median), n=4)


def test_a_difference_is_mcnemars_for_answers_and_the_paired_t_tests_for_numbers():
    a, b = np.array([1, 1, 0, 1]), np.array([0, 1, 0, 0])
    expected = mcnemar(a, b)
    assert R.difference(a, b, 100) == dict(ours=50., ci=tuple(100 * v for v in expected["ci"]), n=4)
    a, b = np.array([1., 2.5, 0., 1.]), np.array([0., 1., 1., 0.])
    assert R.difference(a, b) == dict(ours=.625, ci=paired_t(a, b)["ci"], n=4)


def test_claims_become_lines_and_what_was_not_measured_is_left_out():
    claims = [Claim("a", "> 0", "points", lambda x: dict(ours=float(x.mean()), ci=(1., 3.), n=len(x))),
              Claim("b", None, "", lambda x: None), Claim("c", "< 0", "bits", lambda x: dict(ours=2., n=1))]
    rows = R.evaluate(claims, np.array([1., 3.]), prefix="fovea 3: ")
    assert rows == [
        dict(name="fovea 3: a", paper="> 0", ours=2., ci=(1., 3.), n=2, unit="points", verdict="agrees"),
        dict(name="fovea 3: c", paper="< 0", ours=2., ci=None, n=1, unit="bits", verdict="")]


def test_table_shows_paper_ours_verdict_and_what_was_not_run(capsys):
    rows = [dict(name="CC", paper=None, ours=.12345678, ci=(.1, .2), n=3, unit="", verdict=""),
            dict(name="gain", paper="> 0", ours=2., ci=None, n=3, unit="points", verdict="agrees")]
    R.print_table({"headline": rows, "not_run": ["ObjectNet: no data"], "data": "demo"})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["paper", "ours", "95", "%", "CI", "n", "unit"]
    assert lines[2].split() == ["CC", "-", "0.1235", "0.1", "to", "0.2", "3"]
    assert lines[3].split() == ["gain", ">", "0", "2", "-", "3", "points", "agrees"]
    assert "not run: ObjectNet: no data" in lines and "demo world" in lines[-1]


def test_a_long_table_shows_25_rows_the_studys_choice_and_says_where_the_others_are(capsys):
    rows = [dict(name=f"{part}: {k}", paper=None, ours=1., ci=None, n=3, unit="", verdict="")
            for part in ("t", "d") for k in range(30)]
    R.print_table({"headline": rows, "not_run": [], "data": "files"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[2:27]] == [f"t: {k}" for k in range(25)]
    assert lines[27:] == ["35 more rows are in results.json."]
    R.print_table({"headline": rows, "not_run": [], "data": "files", "on_screen": "d: .*[02468]"})
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines[2:17]] == [f"d: {k}" for k in range(0, 30, 2)]
    assert lines[17:] == ["45 more rows are in results.json."]


@pytest.mark.parametrize("facts", [{"unreadable": ["a.jpg"]},
                                   {"left_out": {"unreadable": ["a.jpg"], "blank": []}}])
def test_the_table_says_what_was_left_out(facts, capsys):
    R.print_table({"headline": [], "not_run": [], "data": "files"} | facts)
    said = [line for line in capsys.readouterr().out.splitlines() if line.startswith("left out")]
    assert said == ["left out, unreadable: 1 (a.jpg ...; results.json lists them)"]


# ------------------------------------------------------------------------------------------------ endings

def end(tmp_path: Path, body: str) -> Ended:
    (tmp_path / "s.py").write_text("from common import InputError\nfrom results import cli\n"
                                   f"def main():\n    {body}\ncli(main)\n")
    return python(tmp_path / "s.py")


def test_input_error_ends_in_one_line_and_status_2(tmp_path):
    found = end(tmp_path, "raise InputError('found a, expected b;\\n do c.')")
    assert found.status == 2 and found.stderr == "error: found a, expected b; do c.\n"


def test_an_input_error_of_a_loaders_process_is_one_line_too(tmp_path):
    body = ("import torch\n    class Bad(torch.utils.data.Dataset):\n"
            "        def __len__(self): return 1\n"
            "        def __getitem__(self, i): raise InputError('map a.npy.')\n"
            "    next(iter(torch.utils.data.DataLoader(Bad(), num_workers=1)))")
    found = end(tmp_path, body)
    assert found.status == 2 and found.stderr == "error: map a.npy.\n"


def test_an_interrupt_says_how_to_go_on_and_ends_in_status_130(tmp_path):
    found = end(tmp_path, "raise KeyboardInterrupt")
    assert found.status == 130 and "--resume" in found.stderr and "Traceback" not in found.stderr


def test_sigterm_leaves_no_half_written_file(tmp_path):
    (tmp_path / "run").mkdir()
    found = end(tmp_path, "import os, signal, time\n    from results import atomic_write\n"
                          f"    with atomic_write({str(tmp_path / 'run/a.txt')!r}):\n"
                          f"        print(os.listdir({str(tmp_path / 'run')!r}), flush=True)\n"
                          "        os.kill(os.getpid(), signal.SIGTERM)\n        time.sleep(60)")
    assert ".tmp" in found.stdout and found.status == 130 and "--resume" in found.stderr
    assert list((tmp_path / "run").iterdir()) == []


def test_the_table_is_on_the_screen_before_figures_are_drawn_and_the_last_line_says_where(tmp_path, capsys):
    complete(arguments(out=tmp_path / "run"))
    capsys.readouterr()
    R.redraw(tmp_path / "run", lambda arrays, results, folder: print("a figure"))
    lines = capsys.readouterr().out.splitlines()
    assert lines[-3:] == ["drawing figures", "a figure", f"results, tables and figures are in {tmp_path / 'run'}"]
    assert lines[0].split()[:2] == ["paper", "ours"]
