"""Several processes (torchrun, gloo, CPU) give the rows of one.

The short version, in the default run: four processes go through evaluations with fewer images than processes
(each script's own tests do so with two, and through its training). `pytest -m scale` runs the whole matrix: every
script's real command under torchrun with two and four processes against one, and kills followed by a resume with
another number of processes. What is the same:

- exp04 and exp05_gaze_video deal whole batches (parts of a clip) to the processes: the same bytes.
- exp01 to exp03, exp05_train_vits --eval and exp06 deal images, so that an image meets others in its batch:
  text, classes and counts the same, numbers within EVALUATED. (A CPU's matrix product rounds by its shape.)
- training: the same steps, batches and schedule; the mean of the processes' gradients is that of the batch
  but for rounding, which Adam enlarges where a gradient is nearly 0: losses and rows within TRAINED.
"""
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import common
import legacy as results
from processes import in_group
from legacy import RowLog, load_checkpoint, read_csv

ROOT = Path(__file__).resolve().parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ANYWAY = ["--workers", "0", "--device", "cpu"]
# Counts are odd on purpose: 7, 22 and 30 images on 2 and 4 processes; 2 held-out images and 3 images on 4.
# The learning rate is the paper's: the demo's is 30 times larger, and so is what Adam makes of rounding.
TUNE = "--limit 22 --batch-size 4 --eval-batch-size 4 --epochs 1 --eval-every 1 --lr 1e-5"
ALIGN = "--limit 3 --stages align benchmark"
# Without the linear head of the demo: after six steps two classes of an image are equal but for rounding.
VITS = "exp05_train_vits.py --depth 4 --limit 96 --epochs 2 --warmup-epochs 0 --no-train-head"
EXACT, EVALUATED, TRAINED = 0., 1e-6, 2e-4
STATISTICS = 1e-4  # of the headline: a t of three images divides by a small spread
MATRIX = {  # name: (command, tolerance: relative, and absolute below 1)
    "exp01": (f"exp01_finetune_vit.py {TUNE} --imagenet-c-images 3 "
              "--stages B C align consistency benchmark", TRAINED),
    "exp01, 3 images": (f"exp01_finetune_vit.py {ALIGN} consistency --imagenet-c-images 3", EVALUATED),
    "exp02": (f"exp02_resnet.py {TUNE} --stages B align benchmark", TRAINED),
    "exp02, 3 images": (f"exp02_resnet.py {ALIGN}", EVALUATED),
    "exp03": ("exp03_biases.py --limit 7", EVALUATED),
    "exp03, 3 images": ("exp03_biases.py --limit 3", EVALUATED),
    "exp04": ("exp04_saccades.py --limit 7 --batch-size 2 --sweep --saliency --per-class 1", EXACT),
    "exp04, 3 images": ("exp04_saccades.py --limit 3 --batch-size 1 --sweep --saliency --per-class 1", EXACT),
    "exp05": ("exp05_gaze_video.py --limit 125 --models demo_dino4 demo_sl4 --no-gbvs", EXACT),
    "exp05, dino": (f"{VITS} --method dino", TRAINED),
    "exp05, supervised": (f"{VITS} --method supervised --mixup .8 --cutmix 1", TRAINED),
    "exp05, --eval": ("exp05_train_vits.py --eval --limit 30", EVALUATED),
    "exp06": ("exp06_gaze_objects.py --limit 7", EVALUATED),
    "exp06, 3 images": ("exp06_gaze_objects.py --limit 3", EVALUATED),
}
SPEED = {"images_per_s"}  # no result


def command(text: str, out: Path, world: int, *more: str) -> list[str]:
    """`python SCRIPT ...`, or the same under torchrun."""
    script, *argv = text.split()
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(world)] * (world > 1)
    return [sys.executable, *run, str(ROOT / script), *argv, *ANYWAY, "--out", str(out), *more]


def run(text: str, out: Path, world: int = 1, *more: str) -> Path:
    p = subprocess.run(command(text, out, world, *more), env=ENV, cwd=out.parent, capture_output=True,
                       text=True, timeout=1500)
    assert p.returncode == 0, p.stderr[-3000:]
    return out


def assert_same_rows(one: list[dict], two: list[dict], tolerance: float, where: str) -> None:
    """Same rows in the same order: text equal, numbers within a relative (below 1: absolute) tolerance."""
    assert len(one) == len(two), where
    for a, b in zip(one, two):
        assert a.keys() == b.keys(), where
        for k in a.keys() - SPEED:
            equal = a[k] == b[k] if not isinstance(a[k], float) or tolerance == 0 else \
                b[k] == pytest.approx(a[k], rel=tolerance, abs=tolerance, nan_ok=True)
            assert equal or a[k] != a[k] and b[k] != b[k], (where, k, a, b)


def assert_same_run(one: Path, two: Path, tolerance: float) -> None:
    """The same tables (tolerance 0: the same bytes) and the same headline numbers."""
    tables = sorted(p.relative_to(one) for p in one.rglob("*.csv"))
    assert tables == sorted(p.relative_to(two) for p in two.rglob("*.csv")) and tables
    for name in tables:
        if tolerance == 0:
            assert (one / name).read_bytes() == (two / name).read_bytes(), name
        assert_same_rows(read_csv(one / name), read_csv(two / name), tolerance, str(name))
    for name in (p.relative_to(one) for p in one.rglob("results.json")):
        a, b = ([h | {"low": (h["ci"] or [None])[0], "high": (h["ci"] or [None])[-1], "ci": None} for h in
                 json.loads((folder / name).read_text())["headline"]] for folder in (one, two))
        assert_same_rows(a, b, tolerance and max(tolerance, STATISTICS), str(name))


def assert_same_weights(one: Path, two: Path, lr: float) -> None:
    """As many steps; weights whose difference is, in the mean of the tensors, a small part of a step of Adam
    (lr). Not each: where the gradient is 0 (keys' biases, always; values of exp01's last block before the
    first step, when the student is the teacher) Adam makes a step of the rounding error."""
    a, b = (load_checkpoint(file) for file in (one, two))
    assert a["step"] == b["step"] > 2
    a, b = (s.get("student") or s["now"] for s in (a, b))
    apart = [float((v - b[k]).square().mean().sqrt()) / lr for k, v in a.items() if v.ndim > 1]
    assert sum(apart) / len(apart) < .1, apart


@pytest.fixture(scope="session")
def single(tmp_path_factory):
    """Folder of a command's run on one process, made once."""
    made = {}

    def of(name: str) -> Path:
        if name not in made:
            made[name] = run(MATRIX[name][0], tmp_path_factory.mktemp("one") / "run")
        return made[name]
    return of


@pytest.fixture
def asked(request) -> None:
    if "scale" not in request.config.option.markexpr:
        pytest.skip("the whole matrix takes half an hour; ask for it with -m scale")


TRAININGS = {"tuned_B.pt": 1e-5, "last.pt": 1e-3}  # checkpoints and learning rates (about; of the demo)


@pytest.mark.scale
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", MATRIX)
def test_processes_give_the_rows_of_one(name, world, asked, single, tmp_path):
    text, tolerance = MATRIX[name]
    assert_same_run(single(name), run(text, tmp_path / "run", world), tolerance)
    for file, lr in TRAININGS.items():
        if (single(name) / file).exists():
            assert_same_weights(single(name) / file, tmp_path / "run" / file, lr)


KILLED = {  # enough work to be killed in
    "evaluation": ("exp04_saccades.py --limit 40 --batch-size 1", EXACT),
    "tuning on gaze": (f"exp01_finetune_vit.py {TUNE} --stages B", TRAINED),
    "training": (f"{VITS} --method dino --save-minutes 0", TRAINED),
}


def done(folder: Path) -> int:
    """Images with rows, or steps in the checkpoint, so far."""
    parts, checkpoints = folder.glob("per_image.part*.jsonl"), [folder / k for k in TRAININGS]
    return sum(p.read_bytes().count(b"\n") for p in parts if p.exists()) + sum(
        load_checkpoint(file)["step"] for file in checkpoints if file.exists())


@pytest.mark.scale
@pytest.mark.parametrize("name", KILLED)
def test_a_run_of_four_killed_and_resumed_by_two_equals_one(name, asked, tmp_path):
    text, tolerance = KILLED[name]
    one, two = run(text, tmp_path / "one"), tmp_path / "two"
    p = subprocess.Popen(command(text, two, 4), env=ENV, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        while p.poll() is None and done(two) < 2:
            time.sleep(.1)
    finally:
        p.terminate()  # torchrun ends its processes
        p.wait()
    assert done(two) >= 2 and not (two / "results.json").exists()
    assert_same_run(one, run(text, two, 2, "--resume"), tolerance)
    for file, lr in TRAININGS.items():
        if (one / file).exists():
            assert_same_weights(one / file, two / file, lr)


# ----------------------------------------------------------------------------------------- short version

def all_jobs(jobs: list[list], out: Path) -> None:
    """One after the other, without figures."""
    for i, (script, *argv) in enumerate(jobs):
        module = importlib.import_module(script.removesuffix(".py"))
        module.draw_all = lambda *args: None
        module.main([*argv, *ANYWAY, "--out", str(out / str(i))])


def test_four_processes_give_the_rows_of_one_for_three_images(tmp_path):
    names = "exp03, 3 images", "exp04, 3 images", "exp05, --eval", "exp06, 3 images"
    jobs = [MATRIX[k][0].replace(" --sweep --saliency --per-class 1", "").split() for k in names]
    for script, *_ in jobs:
        importlib.import_module(script.removesuffix(".py"))  # once, before the processes part
    for world in (1, 4):
        in_group(world, all_jobs, jobs, tmp_path / str(world))
    for i, name in enumerate(names):
        assert_same_run(tmp_path / "1" / str(i), tmp_path / "4" / str(i), MATRIX[name][1])


def test_rows_of_four_killed_processes_are_taken_over_by_two(tmp_path, monkeypatch):
    def process(rank: int, world: int, folder: Path, most: int = 99) -> tuple[RowLog, int]:
        for module in (common, results):
            monkeypatch.setattr(module, "rank_world", lambda: (rank, world))
        log = RowLog(folder, resume=True)
        todo = [i for i in common.shard(range(7)) if f"image{i}" not in log.done][:most]
        for i in todo:
            log.add([{"image": f"image{i}", "condition": k, "value": i / 3} for k in "AB"])
        return log, len(todo)
    process(0, 1, tmp_path / "one")[0].merge()
    assert [process(rank, 4, tmp_path / "two", 1)[1] for rank in range(4)] == [1, 1, 1, 1]  # then a kill
    work = {rank: process(rank, 2, tmp_path / "two") for rank in (1, 0)}
    assert {rank: n for rank, (_, n) in work.items()} == {1: 1, 0: 2}  # of 4, 5 and 6
    work[0][0].merge()
    assert (tmp_path / "two/per_image.csv").read_bytes() == (tmp_path / "one/per_image.csv").read_bytes()
    assert [p.name for p in (tmp_path / "two").iterdir()] == ["per_image.csv"]
