"""Every script, killed at random moments and resumed, ends as an undisturbed run does.

Quick by default; GAZE_KILLS=20 pytest tests/test_faults.py kills each script twenty times.
"""
import importlib
import json
import multiprocessing
import os
import random
import re
import resource
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import demo
from processes import fork
from data import read_csv
from results import cli, load_checkpoint

KILLS = int(os.environ.get("GAZE_KILLS", 0))
TUNE = "--device cpu --workers 1 --limit 10 --batch-size 4 --epochs 2 --eval-every 1 "
TRAIN = ("--device cpu --workers 1 --data {world}/imagenet --width 24 --depth 2 --batch-size 8 --epochs 2 "
         "--warmup-epochs 1 --dtype float32 --save-minutes 0 --train-head ")
COMMANDS = {  # the demo world's smallest use of every part; a batch or a checkpoint every moment
    "exp01": "exp01_finetune_vit --data {world} --model demo_sl12 --lr 1e-4 " + TUNE,
    "exp02": "exp02_resnet --data {world} --model demo_resnet --lr 1e-5 " + TUNE,
    "exp03": "exp03_biases --data {world} --model demo_sl4 --limit 12 --batch-size 1 --workers 1 --device cpu",
    "exp04": "exp04_saccades --data {world}/imagenet --model demo_dino12 --train-head --limit 8 --sweep "
             "--saliency --batch-size 2 --workers 1 --device cpu",
    "exp05": "exp05_gaze_video --data {world}/videos --models demo_dino8 demo_sl4 --limit 3 --batch-size 2 "
             "--device cpu",
    "dino": "exp05_train_vits --method dino " + TRAIN,
    "supervised": "exp05_train_vits --method supervised " + TRAIN,
    "exp06": "exp06_gaze_objects --data {world}/objects --model demo_dino12 --size 224 224 --batch-size 1 "
             "--sigmas .5 2.5 .5 --workers 1 --device cpu"}
TINY = dict(heads=2, global_size=32, eval_every=1, eval_resize=224, local_size=16, locals=2, out_dim=40,
            head_hidden=32, bottleneck=16)  # of the recipes of a training
# What a resumed run may say otherwise: how long it took, where it was put and that it was resumed.
FREE = {"git", "seconds", "args.out", "args.resume", "args.run", "training.B.seconds", "training.C.seconds"}


ALL = list(COMMANDS) if KILLS else ["exp03"]  # the others' own tests kill and resume them once


@pytest.fixture(scope="module")
def world() -> Path:
    return demo.demo_world(parts=demo.PARTS if KILLS else ("salicon",))


def start(command: str, out: Path, world: Path, *more: str, renames: int = 0, by: int = signal.SIGKILL,
          room: int = 0) -> multiprocessing.Process:
    """The script's main, in a process group of its own; imports are paid once, by this process. Right after
    `renames` files got their final names (0: never) the group gets the signal `by`; room: bytes a file can
    take (0: any)."""
    script, *argv = command.format(world=world).split()
    module = importlib.import_module(script)

    def child() -> None:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore control-C
        for stream, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(f"{out}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
            setattr(sys, name, open(stream, "w", buffering=1, closefd=False))
        if room:
            resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
        named, replace = iter(range(1, 10**6)), os.replace

        def replace_and_die(*paths) -> None:
            replace(*paths)
            if next(named) == renames:
                os.killpg(0, by)
        os.replace = replace_and_die
        if script == "exp05_train_vits":
            for recipe in module.PAPER.values():
                recipe.update({k: v for k, v in TINY.items() if k in recipe})
        cli(lambda: module.main([*argv, "--out", str(out), *more]))
    process = fork(child)
    while process.is_alive() and os.getpgid(process.pid) != process.pid:
        time.sleep(.001)
    return process


def said(out: Path) -> str:
    return Path(f"{out}.stderr").read_text()


def undisturbed(command: str, out: Path, world: Path, *more: str) -> float:
    """Seconds of a run that is left alone."""
    began, process = time.time(), start(command, out, world, *more)
    process.join()
    assert process.exitcode == 0, said(out)
    return time.time() - began


def files(out: Path) -> dict[str, Path]:
    return {str(p.relative_to(out)): p for p in sorted(out.rglob("*")) if p.is_file() and p.suffix != ".tmp"}


def assert_whole(out: Path) -> None:
    """Every file that has its final name can be read to its end."""
    for name, path in files(out).items():
        if name.endswith(".csv"):
            read_csv(path)
        elif name.endswith(".json"):
            json.loads(path.read_text())
        elif name.endswith((".pth", ".pt")):
            load_checkpoint(path)
        elif name.endswith(".npz"):
            with np.load(path) as arrays:
                [arrays[k] for k in arrays]
        elif name.endswith(".png"):
            Image.open(path).load()


def flat(value, name: str = "") -> dict:
    """{path.to.entry: value} of nested dicts and lists."""
    if isinstance(value, (dict, list)) and value:
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {k: v for key, x in items for k, v in flat(x, f"{name}.{key}".strip(".")).items()}
    return {} if name in FREE else {name: value}


def assert_same(a: Path, b: Path) -> None:
    """Two finished runs have the same files, rows, results and weights."""
    assert files(a).keys() == files(b).keys()
    for name, path in files(a).items():
        other = b / name
        if name == "log.csv":
            assert [{k: v for k, v in r.items() if k != "images_per_s"} for r in read_csv(path)] == \
                [{k: v for k, v in r.items() if k != "images_per_s"} for r in read_csv(other)]
        elif name.endswith(".csv"):
            assert path.read_bytes() == other.read_bytes(), name
        elif name == "results.json":
            assert flat(json.loads(path.read_text())) == flat(json.loads(other.read_text()))
        elif name.endswith(".pth"):
            x, y = load_checkpoint(path), load_checkpoint(other)
            assert x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x), name
        elif name.endswith(".npz"):
            with np.load(path) as x, np.load(other) as y:
                assert {*x} == {*y} and all(x[k].tobytes() == y[k].tobytes() for k in x), name


def state(out: Path) -> dict:
    return {name: path.stat().st_size for name, path in files(out).items() if "args.json" not in name}


def kill_and_resume(command: str, out: Path, world: Path, seconds: float, kills: int,
                    draw: random.Random) -> int:
    """A run that is killed at most `kills` times, each time resumed, and ends; how often it was killed.

    Half of the kills follow at once on a file that got its name. The moments of the others are uniform over a
    window that starts as a quarter of the run, and grows as long as kills leave behind nothing new.
    """
    window, done = seconds / 4, 0
    while True:
        at_rename = done < kills and draw.random() < .5
        before, process = state(out), start(command, out, world, *["--resume"] * (done > 0),
                                            renames=draw.randint(1, 6) if at_rename else 0)
        process.join(draw.uniform(0, window) if done < kills and not at_rename else None)
        if process.exitcode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.join()
        if process.exitcode != -signal.SIGKILL:
            assert process.exitcode == 0, said(out)
            return done
        assert "Traceback" not in said(out)
        assert_whole(out)
        done, window = done + 1, seconds / 4 if state(out) != before else 1.5 * window


@pytest.mark.parametrize("name", ALL)
def test_a_script_killed_at_random_moments_ends_as_an_undisturbed_one(name, world, tmp_path, capsys):
    command, kills, done, rounds = COMMANDS[name], KILLS or 2, 0, 0
    seconds, draw = undisturbed(command, tmp_path / "a", world), random.Random(f"{name} 0")
    while done < kills:  # a run may end before all kills are spent: the next one takes the rest
        out, rounds = tmp_path / f"b{rounds}", rounds + 1
        done += kill_and_resume(command, out, world, seconds, kills - done, draw)
        assert_same(tmp_path / "a", out)
    with capsys.disabled():
        print(f"\n{name}: {done} kills in {rounds} runs of {seconds:.1f} s") if KILLS else None


@pytest.mark.parametrize("name", ALL)
def test_control_c_ends_in_one_line_and_status_130_and_can_be_resumed(name, world, tmp_path):
    command, out = COMMANDS[name], tmp_path / "a"
    # Python drops an interrupt that falls into the start of a worker: by the second file of rows it is there
    process = start(command, out, world, renames=3, by=signal.SIGINT)
    process.join()
    assert len([name for name in state(out) if not name.endswith(".json")]) == 2
    bar = r"\s*$|.*\d+%\||.*\d+it "
    lines = [line for line in re.split(r"[\r\n]+", said(out)) if not re.match(bar, line)]
    assert process.exitcode == 130 and len(lines) == 1 and "interrupted" in lines[0], said(out)
    undisturbed(command, out, world, "--resume")


@pytest.mark.parametrize("name", ALL)
def test_a_disk_that_is_full_ends_in_one_line_and_status_2_and_the_run_goes_on_when_there_is_room(
        name, world, tmp_path):
    command = COMMANDS[name].replace("--workers 1", "") + " --workers 0"  # workers hand over by files, too
    undisturbed(command, tmp_path / "a", world)
    sizes = sorted({p.stat().st_size for p in files(tmp_path / "a").values() if p.name != "args.json"})
    for i, share in enumerate((.05, .3, .8) if KILLS else (.3,)):
        out = tmp_path / f"b{i}"
        process = start(command, out, world, room=max(2000, sizes[int(share * len(sizes))] - 1))
        process.join()
        errors = [line for line in re.split(r"[\r\n]+", said(out)) if line.startswith("error: ")]
        assert process.exitcode == 2 and len(errors) == 1 and "Traceback" not in said(out), said(out)
        assert_whole(out)
        undisturbed(command, out, world, "--resume")
        assert_same(tmp_path / "a", out)
