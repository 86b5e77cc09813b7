"""Several processes (torchrun, gloo, CPU) give the rows of one.

The short version, in the default run: three processes evaluate two or three images (each script's own tests
do so with two processes, and through its training). `pytest -m scale` runs the whole matrix: every script's
real command under torchrun with two and four processes against one, and kills followed by a
resume with another number of processes. Whole batches are dealt to the processes, so evaluations give the
same bytes. Trainings make the same steps with the same batches; the mean of the gradients is that of the
batch but for rounding, which Adam enlarges where a gradient is nearly 0: losses and rows within TRAINED.
"""
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from data import read_csv
from processes import in_group
from results import load_checkpoint

ROOT = Path(__file__).resolve().parents[1]
ENV = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
ANYWAY = ["--workers", "0", "--device", "cpu"]
# Counts are odd on purpose: 7, 22 and 30 images on 2 and 4 processes; 2 held-out images and 3 images on 4.
# The learning rate is the paper's: the demo's is 30 times larger, and so is what Adam makes of rounding.
TUNE = "--limit 22 --batch-size 4 --epochs 1 --eval-every 1 --lr 1e-5"
# Without the linear head of the demo: after six steps two classes of an image are equal but for rounding.
VITS = "exp05_train_vits.py --depth 4 --limit 96 --epochs 2 --warmup-epochs 0 --no-train-head"
EXACT, TRAINED = 0., 2e-4
STATISTICS = 1e-4  # of the headline: a t of three images divides by a small spread
MATRIX = {  # name: (command, tolerance: relative, and absolute below 1)
    "exp01": (f"exp01_finetune_vit.py {TUNE}", TRAINED),
    "exp01, tuned before": ("exp01_finetune_vit.py --limit 3 --model-b {B} --model-c {C}", EXACT),
    "exp02": (f"exp02_resnet.py {TUNE}", TRAINED),
    "exp03": ("exp03_biases.py --limit 7 --batch-size 2", EXACT),
    "exp03, 3 images": ("exp03_biases.py --limit 3 --batch-size 1", EXACT),
    "exp04": ("exp04_saccades.py --limit 7 --batch-size 2 --sweep --saliency", EXACT),
    "exp04, 3 images": ("exp04_saccades.py --limit 3 --batch-size 1 --sweep --saliency", EXACT),
    "exp05": ("exp05_gaze_video.py --limit 25 --models demo_dino8 demo_sl4 --batch-size 4", EXACT),
    "exp05, dino": (f"{VITS} --method dino", TRAINED),
    "exp05, supervised": (f"{VITS} --method supervised", TRAINED),
    "exp05, --eval": ("exp05_train_vits.py --eval --limit 30 --batch-size 4", EXACT),
    "exp06": ("exp06_gaze_objects.py --limit 7 --batch-size 2", EXACT),
    "exp06, 3 images": ("exp06_gaze_objects.py --limit 3 --batch-size 1", EXACT),
}
SPEED = {"images_per_s"}  # no result
TUNED = {k: str(ROOT / "checkpoints" / f"demo_{k}.pth") for k in "BC"}


def command(text: str, out: Path, world: int, *more: str) -> list[str]:
    """`python SCRIPT ...`, or the same under torchrun."""
    script, *argv = text.format(**TUNED).split()
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


@pytest.mark.scale
@pytest.mark.parametrize("world", [2, 4])
@pytest.mark.parametrize("name", MATRIX)
def test_processes_give_the_rows_of_one(name, world, asked, single, tmp_path):
    text, tolerance = MATRIX[name]
    assert_same_run(single(name), run(text, tmp_path / "run", world), tolerance)


KILLED = {  # enough work to be killed in
    "evaluation": ("exp04_saccades.py --limit 40 --batch-size 1", EXACT),
    "tuning on gaze": (f"exp01_finetune_vit.py {TUNE}", TRAINED),
    "training": (f"{VITS} --method dino --save-minutes 0", TRAINED),
}


def done(folder: Path) -> int:
    """Batches, or steps in the checkpoints, so far."""
    checkpoints = [*folder.glob("unfinished/*.pt")]
    return len(list(folder.glob("unfinished/*/*.npz"))) + sum(load_checkpoint(f)["step"] for f in checkpoints)


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


# ----------------------------------------------------------------------------------------- short version

def all_jobs(jobs: list[list], out: Path) -> None:
    """One after the other, without figures."""
    for i, (script, *argv) in enumerate(jobs):
        module = importlib.import_module(script.removesuffix(".py"))
        module.draw = lambda arrays, results, folder: None
        module.main([*argv, *ANYWAY, "--out", str(out / str(i))])


def test_three_processes_give_the_rows_of_one_for_two_and_three_images(tmp_path):
    small = {"exp03, 3 images": "--model demo_sl4", "exp04, 3 images": "--model demo_sl4 --limit 2",
             "exp05, --eval": "--method supervised --depth 4 --no-train-head --limit 14",
             "exp06, 3 images": "--model demo_dino4 --size 224 224 --limit 2"}
    jobs = [f"{MATRIX[k][0].replace(' --sweep --saliency', '')} {more}".split() for k, more in small.items()]
    for script, *_ in jobs:
        importlib.import_module(script.removesuffix(".py"))  # once, before the processes part
    for world in (1, 3):
        in_group(world, all_jobs, jobs, tmp_path / str(world))
    for i, name in enumerate(small):
        assert_same_run(tmp_path / "1" / str(i), tmp_path / "3" / str(i), MATRIX[name][1])
