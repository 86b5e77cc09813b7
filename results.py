"""What every script does alike: arguments, the run's folder, batches that survive a kill, the table, figures.

A run lives in one folder, `args.out`:

    args.json       what was asked, of which items, with which weights
    unfinished/     one .npz file a batch while the run goes on; it goes when the run is complete
    arrays.npz      everything that was measured: figures and claims are computed from it
    per_image.csv   the same as a table
    results.json    claims, tests, versions, seconds
    fig*.png, .pdf

Every file is written under a temporary name and renamed, so that a kill leaves the old file or the new one.
"""
from __future__ import annotations

import argparse
import csv
import gc
import hashlib
import io
import json
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from matplotlib.figure import Figure
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

import download
from common import InputError, ROOT, barrier, bootstrap_ci, input_errors, mcnemar, paired_t, rank_world
from weights import weights_sha256

# Colours of the papers, one meaning each in every figure.
PALETTE = {"A": "#d62728", "B": "#2ca02c", "C": "#8c8c8c", "human": "#000000",
           "attention": "#1f77b4", "random": "#9e9e9e", "dino": "#084594", "sl": "#ff7f0e",
           "gbvs": "#9467bd", "unisal": "#17becf", "centre": "#bcbd22", "others": "#e377c2"}
MODELS = {"A": "before tuning", "B": "tuned on where people looked", "C": "tuned on other images' fixations"}
# Arguments that change where, how fast and how far, not what.
FREE = ("out", "resume", "plot_only", "workers", "device", "eval", "save_minutes", "stop_step")
DATA_FOLDERS = ("salicon", "coco", "imagenet", "objectnet")  # arguments that name one data set each
TABLES = (".json", ".csv", ".mat", ".npz", ".npy")  # files whose content is compared, not their size alone
ON_SCREEN = 25  # rows of a printed table
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
CLOSE = 2.0  # "about X" in the paper's text is confirmed by an interval within X +- CLOSE


# -------------------------------------------------------------------------------- arguments

def cli(main: Callable, again: str = "the same command with --resume") -> None:
    """Run a script's main(): wrong input ends in one sentence on stderr and status 2, Ctrl-C or SIGTERM in
    130. SIGTERM raises, too, so that half-written files go and processes that were started are ended."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main()
    except InputError as e:
        sentence = str(e).rsplit("InputError: ", 1)[-1]  # of a DataLoader's worker, behind its traceback
        tqdm.write(f"error: {sentence}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        tqdm.write(f"interrupted; {again} goes on", file=sys.stderr)
        sys.exit(130)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def at_least(low: float, kind: type = int) -> Callable[[str], float]:
    """argparse's type for numbers that are finite and not below low."""
    def number(text: str) -> float:
        if not low <= kind(text) < math.inf:
            raise argparse.ArgumentTypeError(f"{text}: expected a number of at least {low}")
        return kind(text)
    return number


def argument_parser(file: str, card: str, batch_size: int | str = 32, limit: str = "the first N images",
                    dtype: str = "float32") -> argparse.ArgumentParser:
    """Parser of the script `file` with the arguments that mean the same everywhere. Its --help shows the
    first paragraph and the commands of the script's card. A script that chooses batch_size or dtype later
    gives a text for --help here, and calls set_defaults."""
    parts = card.strip().split("\n\n")
    commands = next(part for part in parts if part.startswith("Commands"))
    formatter = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30, width=110)
    parser = argparse.ArgumentParser(
        prog=Path(file).name, usage="python %(prog)s [options]", formatter_class=formatter,
        description=f"{parts[0]}\n\n{commands}", allow_abbrev=False,
        epilog="Without --out a run's folder is runs/<script>/<what differs from the defaults>. A folder\n"
               "that holds a run of other arguments is never touched; the same command on a finished run\n"
               "measures anew beside the old results and replaces them when it is complete.")
    add = parser.add_argument_group("common").add_argument
    add("--data", default="demo", help="folder of the data, or demo: the built-in demo world (default: demo)")
    add("--out", type=Path, help="folder of the run (default: see below)")
    add("--weights", type=Path, help="weight file to use instead of the model's own")
    add("--device", help="cuda, mps or cpu (default: the first available)")
    add("--dtype", default=dtype, choices=["float32", "bfloat16"], help=f"of the models ({dtype})")
    add("--batch-size", type=at_least(1), default=batch_size, help=f"images a batch ({batch_size})")
    add("--workers", type=at_least(0), default=min(CORES, 8),
        help="decoding processes (%(default)s: as many as there are cores, at most 8)")
    add("--seed", type=at_least(0), default=0, help="of every random draw (%(default)s)")
    add("--limit", type=at_least(1), metavar="N", help=f"use only {limit} (default: all)")
    add("--resume", action="store_true", help="go on with an interrupted run of the same arguments")
    add("--plot-only", action="store_true", help="redraw figures and table from the files of a run")
    return parser


def parse_args(parser: argparse.ArgumentParser, argv: Sequence[str] | None = None, paper: dict = {},
               demo: dict = {}) -> argparse.Namespace:
    """The arguments, where none was given the demo's or the paper's; args.out is the run's folder."""
    args = parser.parse_args(argv)
    if args.data == "demo" and any(getattr(args, name, None) for name in DATA_FOLDERS):  # real data
        args.data = None
    if args.data and args.data != "demo" and not download.is_name(args.data):
        args.data = Path(args.data)
    if args.out is None:
        args.out = Path("runs") / Path(parser.prog).stem / run_name(parser, args)
    chosen = demo if args.data == "demo" else paper
    vars(args).update({name: value for name, value in chosen.items() if getattr(args, name, None) is None})
    args.script = Path(parser.prog).stem  # no other script's run is touched in a folder given with --out
    return args


def run_name(parser: argparse.ArgumentParser, args: argparse.Namespace) -> str:
    """What differs from the defaults, as in demo_fovea5_limit40. A path is its last name and four digits of a
    hash of the whole; names over 60 characters end in a hash, too. So no two commands share a folder."""
    def word(value) -> str:
        if isinstance(value, (list, tuple)):
            return "-".join(map(word, value))
        if isinstance(value, Path):
            return f"{value.name}-{digest([str(value.resolve())])[:4]}"
        return re.sub(r"[^\w.=+-]+", "-", str(value))

    words = [word(args.data)] if args.data else []
    for name, value in vars(args).items():
        if name in (*FREE, "data") or value == parser.get_default(name):
            continue
        if isinstance(value, bool):
            words.append(name if value else f"no_{name}")
        elif isinstance(value, Path):
            words.append(f"{name}-{word(value)}")
        else:
            words.append(name + word(value))
    whole = "_".join(words)
    return whole if len(whole) <= 60 else f"{whole[:50]}-{digest([whole])[:8]}"


# -------------------------------------------------------------------------------- files

@contextmanager
def atomic_write(path: Path | str, mode: str = "w"):
    """A file opened for writing under a temporary name and renamed when complete."""
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    # names of files that are no UTF-8 keep their bytes
    text = {} if "b" in mode else {"newline": "", "encoding": "utf-8", "errors": "surrogateescape"}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, mode, **text) as f:
            yield f
        os.replace(part, path)
    except OSError as e:
        raise InputError(f"cannot write {path} ({e.strerror or e}); make room or change --out.") from e
    finally:
        if part.exists():
            part.unlink()


def save_arrays(path: Path | str, **arrays) -> None:
    """Arrays, tensors, lists as a compressed .npz, atomically."""
    arrays = {name: v.cpu().numpy() if isinstance(v, Tensor) else np.asarray(v) for name, v in arrays.items()}
    with atomic_write(path, "wb") as f:
        np.savez_compressed(f, **arrays)


def read_arrays(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of an .npz file; no code in it is run. InputError: damaged."""
    with input_errors(path, "a whole .npz file of a run; remove it and run the command again"), \
            np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def save_checkpoint(obj, path: Path | str) -> None:
    """torch.save of tensors, numbers, strings, lists and dicts, atomically, by the first process."""
    if rank_world()[0] > 0:
        return
    buffer = io.BytesIO()  # torch.save would turn a full disk into an error of its own
    torch.save(obj, buffer)
    with atomic_write(path, "wb") as f:
        f.write(buffer.getbuffer())


def load_checkpoint(path: Path | str):
    """A checkpoint of save_checkpoint, on the CPU; no code in it is run. InputError: damaged."""
    with input_errors(path, "a whole checkpoint of this project; delete it or choose another --out"):
        return torch.load(path, map_location="cpu", weights_only=True)


def write_json(obj, path: Path | str) -> None:
    """JSON, atomically: arrays become lists, paths strings, NaN null, infinities "Infinity", "-Infinity"."""
    text = json.dumps(obj, default=lambda v: v.tolist() if hasattr(v, "tolist") else str(v))
    plain = json.loads(text, parse_constant=lambda name: None if name == "NaN" else name)
    with atomic_write(path) as f:
        json.dump(plain, f, indent=1, ensure_ascii=False)


def read_json(path: Path | str):
    """The content of a JSON file. InputError: damaged."""
    with input_errors(path, "a whole JSON file of a run; run the command again"):
        return json.loads(Path(path).read_text(encoding="utf-8", errors="surrogateescape"))


def write_csv(rows: Iterable[dict], path: Path | str) -> None:
    """Rows of equal keys as CSV with a header, atomically, by the first process; NaN becomes an empty field.
    They may be generated one by one: those of 50,000 images would fill a gigabyte."""
    if rank_world()[0] > 0:
        return
    with atomic_write(path) as f:
        writer = None
        for row in rows:
            if writer is None:
                writer = csv.DictWriter(f, row)
                writer.writeheader()
            writer.writerow({k: "" if v != v else v for k, v in row.items()})


# -------------------------------------------------------------------------------- a run

def digest(what: nn.Module | Iterable[str | Path] | Path) -> str:
    """First 16 hex digits of the SHA-256 of a model's weights, a file's content, or a list. A list's paths
    count with their names and sizes; tables of gaze and annotations (TABLES) with their content, too."""
    if isinstance(what, nn.Module):
        return weights_sha256(what.state_dict().values()).hex()[:16]
    if isinstance(what, Path):
        return hashlib.sha256(what.read_bytes()).hexdigest()[:16]
    sha = hashlib.sha256()
    for item in what:
        line = str(item)
        if isinstance(item, Path):
            there = item.is_file()  # asked once: a training set has a million of them
            line = f"{item.name} {item.stat().st_size if there else 'missing'}"
            if there and item.suffix in TABLES:
                line += f" {digest(item)}"
        sha.update(os.fsencode(f"{line}\n"))
    return sha.hexdigest()[:16]


def fixed_args(args: argparse.Namespace) -> dict:
    """The arguments that decide what is measured, as JSON gives them back; files with a hash of theirs."""
    def text(value) -> str:
        whole = Path(value).resolve()
        return f"{whole} {digest(whole)}" if whole.is_file() else str(whole)

    return json.loads(json.dumps({k: v for k, v in vars(args).items() if k not in FREE}, default=text))


def refuse_other_arguments(folder: Path, asked: dict) -> None:
    """InputError where the folder holds a run of which args.json says otherwise than asked."""
    file = folder / "args.json"
    if file.exists():
        before = read_json(file)
        absent = "(not there, as in runs of an older version)"
        changed = [f"{k} {before.get(k, absent)} -> {v}" for k, v in asked.items() if before.get(k) != v]
        if changed:
            raise InputError(f"{folder} holds a run with other arguments ({', '.join(changed)}); "
                             "choose another --out.")
    elif (folder / "results.json").exists():
        raise InputError(f"{folder} holds results without their args.json; choose another --out.")


def only_draw(args: argparse.Namespace) -> bool:
    """Whether there is nothing to measure: --plot-only, or --resume of a run that is complete."""
    finished, going_on = (args.out / "results.json").exists(), (args.out / "unfinished").exists()
    if args.plot_only and not finished:
        raise InputError(f"--plot-only: no finished run in {args.out}; run once without it first.")
    if args.plot_only and going_on:  # its arrays may be newer than its results
        raise InputError(f"--plot-only: {args.out} was interrupted; --resume completes it.")
    if args.plot_only or args.resume and finished and not going_on:
        refuse_other_arguments(args.out, fixed_args(args))
        return True
    if isinstance(args.data, Path) and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder; correct the path.")  # before any download
    return False


def begin(args: argparse.Namespace, items: Iterable, may_change: Sequence[str] = (),
          **weights: nn.Module | Path) -> Path:
    """Folder for the batches of a run, args.out/unfinished; to be called when all input has been checked.

    items: names of what is measured; weights: the models or files. Their hashes go to args.json. InputError,
    and nothing touched: a folder inside the data, a run of other arguments, items or weights there, or an
    unfinished one without --resume. may_change: arguments that may be others where a run goes on.
    """
    given = [getattr(args, name, None) for name in ("data", *DATA_FOLDERS, "saliency_dir")]
    given += getattr(args, "maps", None) or []
    for place in [Path(place) for place in given if place]:
        if place.is_dir() and place.resolve() in (args.out / "file").resolve().parents:
            raise InputError(f"results would be written into the data ({args.out} in {place}); "
                             "choose another --out.")
    asked = fixed_args(args) | {"items": digest(items), "hashes": {k: digest(v) for k, v in weights.items()}}
    batches = args.out / "unfinished"
    free = may_change if args.resume and batches.exists() else ()
    refuse_other_arguments(args.out, {k: v for k, v in asked.items() if k not in free})
    if batches.exists() and not args.resume:
        raise InputError(f"{args.out} holds an unfinished run of these arguments; add --resume to go on, or "
                         f"remove {batches} to start again.")
    barrier()
    if rank_world()[0] == 0:
        if args.resume and not batches.exists():
            print("--resume: no interrupted run in that folder, so all is measured", flush=True)
        print(f"measuring; results will be in {printable(str(args.out))}", flush=True)
        write_json(asked, args.out / "args.json")
        batches.mkdir(exist_ok=True)
    barrier()
    return batches


def batch_files(folder: Path, data: Dataset, batch_size: int, measure: Callable, workers: int = 0
                ) -> list[Path]:
    """measure(batch) -> {name: values of its items}, for all items of a data set: an .npz file a batch.

    A batch is a file that is whole or absent, so the same call goes on after a kill, on any number of
    processes: process r of w measures the batches r, r + w, r + 2w ... that are not there yet.
    """
    rank, world = rank_world()
    batches = torch.arange(len(data)).split(batch_size)
    files = [folder / f"{k:05d}.npz" for k in range(len(batches))]
    todo = [k for k in range(rank, len(batches), world) if not files[k].exists()]
    if workers:
        gc.collect()  # a worker that ended a video decoder of ours would wait for threads it does not have
    loader = DataLoader(data, batch_sampler=[batches[k].tolist() for k in todo], num_workers=workers,
                        pin_memory=torch.cuda.is_available())
    bar = tqdm(desc=folder.name, total=sum(len(batches[k]) for k in todo), mininterval=1, disable=rank > 0,
               unit=f" {getattr(data, 'unit', 'images')}")
    with torch.no_grad(), bar:
        for batch, k in zip(loader, todo):
            save_arrays(files[k], **measure(batch))
            bar.update(len(batches[k]))
    barrier()
    return files


def in_batches(*what, **how) -> dict[str, np.ndarray]:
    """The files of `batch_files`, whose arguments it takes, joined in every process: {name: (n, ...)}."""
    parts = [read_arrays(file) for file in batch_files(*what, **how)]
    barrier()  # nobody removes the files before all have read them
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def git_version() -> str:
    """The project's commit, with -dirty where files differ from it."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        return "unknown"
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout.strip() or "unknown"


def finish(args: argparse.Namespace, study: str, arrays: dict, rows: Iterable[dict], headline: Sequence[dict],
           draw: Callable, began: float, device: torch.device, tests: Sequence[dict] = (),
           not_run: Sequence[str] = (), **facts) -> None:
    """Writes arrays.npz, per_image.csv and results.json, draws, prints the table, removes unfinished/; by the
    first process, while the others wait: a second script may follow. facts: more entries of results.json."""
    if rank_world()[0] > 0:
        return barrier()
    results = {
        "study": study, "data": args.data or "files", "headline": list(headline), "tests": list(tests),
        "not_run": list(not_run), "args": vars(args), "git": git_version(),
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else
                  f"{device.type}, {torch.get_num_threads()} threads",
        "seconds": round(time.time() - began, 1),
        "items": read_json(args.out / "args.json")["items"], **facts}
    save_arrays(args.out / "arrays.npz", **arrays)
    images, sources = set(), set()

    def noted(row: dict) -> dict:
        images.add(row["image"])
        sources.add(row["condition"])
        return row

    write_csv(map(noted, rows), args.out / "per_image.csv")
    results = {"images": len(images), "tuned": [k for k in MODELS if k in sources]} | results
    write_json(results, args.out / "results.json")
    redraw(args.out, draw)
    shutil.rmtree(args.out / "unfinished")
    barrier()


def redraw(folder: Path, draw: Callable) -> None:
    """The table, and draw(arrays, results, folder), from the files of a run, by the first process."""
    if rank_world()[0] == 0:
        results = read_json(folder / "results.json")
        print_table(results)
        print("drawing figures", flush=True)
        draw(read_arrays(folder / "arrays.npz"), results, folder)
        print(f"results, tables and figures are in {printable(str(folder))}")


# -------------------------------------------------------------------------------- claims

class Claim(NamedTuple):
    """A line of the table. paper: its number, or "> 0", "< 0, p < .001", "about 5"; value(*measured) gives
    the dict of `estimate` or `difference`, with p if the paper has one, or None if it was not measured."""
    name: str
    paper: float | str | None
    unit: str
    value: Callable


def estimate(values, stat: Callable = np.mean) -> dict:
    """Mean, or stat, of the values with its bootstrap 95 % interval."""
    return dict(ours=float(stat(values)), ci=bootstrap_ci(values, stat), n=len(values))


def difference(a, b, scale: float = 1.) -> dict:
    """Mean of a - b with its 95 % interval: McNemar's of answers 0 and 1, else the paired t test's."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    answers = np.isin(np.concatenate([a, b]), (0, 1)).all()
    found = mcnemar(a, b) if answers else paired_t(a, b)
    mean = found["diff"] if answers else found["mean"]
    return dict(ours=float(scale * mean), ci=tuple(scale * v for v in found["ci"]), n=len(a))


def verdict(paper: float | str | None, low: float, high: float, p: float = np.nan) -> str:
    """Whether an interval confirms "> X", "< X" or "about X" (within CLOSE): agrees, differs or undecided.
    "> X, p < P" agrees only if p does so too."""
    sign, _, number = str(paper).partition(" ")
    number, _, level = number.partition(", p < ")
    if sign not in (">", "<", "about"):
        return ""
    low, high = low - float(number), high - float(number)
    yes, no = {">": (low > 0, high < 0), "<": (high < 0, low > 0),
               "about": (low >= -CLOSE and high <= CLOSE, low > CLOSE or high < -CLOSE)}[sign]
    if level:
        yes &= p < float(level)
    return "agrees" if yes else "differs" if no else "undecided"


def evaluate(claims: Iterable[Claim], *measured, prefix: str = "") -> list[dict]:
    """The lines of the table that can be computed from what was measured."""
    rows = []
    for claim in claims:
        found = claim.value(*measured)
        if found is not None:
            row = dict(name=prefix + claim.name, paper=claim.paper, ours=found["ours"], ci=found.get("ci"),
                       n=found["n"], unit=claim.unit)
            row["verdict"] = verdict(claim.paper, *row["ci"], found.get("p", np.nan)) if row["ci"] else ""
            rows.append(row)
    return rows


def show(value) -> str:
    """A number with four digits, an interval, a text; - where there is none."""
    if isinstance(value, (list, tuple)):
        return " to ".join(map(show, value))
    if value is None or value != value:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def printable(text: str) -> str:
    """The text with question marks for the bytes of a file's name that are no UTF-8."""
    return os.fsencode(text).decode(errors="replace")


def print_table(results: dict) -> None:
    """paper | ours | 95 % CI | n | unit | verdict, then what the verdict means and what was not run. At most
    ON_SCREEN rows: the first, or the first whose names match the regular expression results["on_screen"]."""
    pattern = results.get("on_screen", ".*")
    rows = [row for row in results["headline"] if re.fullmatch(pattern, row["name"].strip())][:ON_SCREEN]
    keys = ("name", "paper", "ours", "ci", "n", "unit", "verdict")
    lines = [["", "paper", "ours", "95 % CI", "n", "unit", ""]]
    lines += [[show(row.get(key)) for key in keys] for row in rows]
    widths = [max(map(len, column)) for column in zip(*lines)]
    for line in lines:
        cells = [cell.ljust(width) if key in ("name", "unit", "verdict") else cell.rjust(width)
                 for key, cell, width in zip(keys, line, widths)]
        print("  ".join(cells).rstrip())
        if line is lines[0]:
            print("-" * sum(widths))
    if len(rows) < len(results["headline"]):
        print(f"{len(results['headline']) - len(rows)} more rows are in results.json.")
    if any(row.get("verdict") for row in rows):
        print("agrees: the whole interval lies on the paper's side (about X: within 2 of X; p: below the\n"
              "paper's); differs: on the other side; undecided: neither.")
    for part in results["not_run"]:
        print(f"not run: {printable(part)}")
    left_out = {"unreadable": results.get("unreadable", ())} | results.get("left_out", {})
    for reason, names in left_out.items():
        if names:
            print(f"left out, {reason}: {len(names)} ({printable(names[0])} ...; results.json lists them)")
    for note in results.get("notes", ()):
        print(printable(note))
    if results["data"] == "demo":
        print("These are numbers of the built-in demo world, not the paper's data.")


# -------------------------------------------------------------------------------- figures

def figure_grid(rows: int, columns: int, width: float = 3.2, height: float = 3., **how
                ) -> tuple[Figure, np.ndarray]:
    """Panels (rows, columns), each width x height inches. how: sharey, width_ratios ... of subplots."""
    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **how)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def legend_beside(ax, **how) -> None:
    """Right of the panel, where it covers no data; none where nothing has a label."""
    if ax.get_legend_handles_labels()[1] or "labels" in how:
        ax.legend(**{"loc": "upper left", "bbox_to_anchor": (1, 1), "frameon": False, "fontsize": 8} | how)


def small_print(results: dict) -> str:
    """Data, model, number of images of a run, and what A, B and C are: the foot of each of its figures."""
    args = results["args"]
    given = [args["data"]] if args.get("data") else [args[name] for name in DATA_FOLDERS if args.get(name)]
    where = "built-in demo world" if results["data"] == "demo" else ", ".join(Path(v).name for v in given)
    model = results.get("model") or args.get("model") or ", ".join(args.get("models") or ())
    parts = [where, model, f"n = {results.get('images', '?')} {results.get('unit', 'images')}"]
    parts += [f"{k}: {MODELS[k]}" for k in results.get("tuned", ())]
    return "; ".join(part for part in parts if part)


def save_figure(fig: Figure, path: Path | str) -> None:
    """path.png and path.pdf, each atomically; the same figure gives the same bytes. Below all else, the small
    print of the run in whose folder it is saved."""
    run = Path(path).parent / "results.json"
    if run.exists():
        foot = textwrap.fill(small_print(read_json(run)), int(20 * fig.get_figwidth()))
        fig.text(.5, 0, foot, ha="center", va="top", fontsize=7, color="#444444")
    for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        with atomic_write(Path(f"{path}.{kind}"), "wb") as f:
            fig.savefig(f, format=kind, dpi=150, metadata=metadata, bbox_inches="tight")  # cuts no title
    print(f"  {Path(path).name}.png, .pdf", flush=True)
