"""Arguments, run folders, rows that survive a kill, tables and figures: what all scripts do alike.

A run lives in one folder: `args.json` (what was asked), `per_image.csv` (a row per image x condition),
`results.json` (headline numbers, tests, versions, seconds), `fig*.png` and `.pdf`. Every file is written
under a temporary name and renamed, so that a kill at any moment leaves the old file or the new one.
"""
from __future__ import annotations

import argparse
import csv
import hashlib
import heapq
import io
import itertools
import json
import math
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from common import InputError, ROOT, barrier, bootstrap_ci, first_process_first, input_errors, rank_world

# Colours of the papers, one meaning each in every figure.
PALETTE = {"A": "#d62728", "B": "#2ca02c", "C": "#8c8c8c", "human": "#000000",
           "attention": "#1f77b4", "random": "#9e9e9e", "dino": "#084594", "sl": "#ff7f0e",
           "gbvs": "#9467bd", "unisal": "#17becf", "centre": "#bcbd22"}


def cli(main) -> None:
    """Run a script's main(): wrong input ends in one sentence on stderr and status 2, an interrupt in 130.
    Under torchrun each process says so for itself and torchrun ends with status 1."""
    try:
        main()
    except InputError as e:
        tqdm.write(f"error: {e}", file=sys.stderr)  # not behind a progress bar
        sys.exit(2)
    except KeyboardInterrupt:
        tqdm.write("interrupted; the same command goes on (with --resume, where it has that)", sys.stderr)
        sys.exit(130)
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def argument_parser(doc: str, epilog: str | None = None) -> argparse.ArgumentParser:
    """Parser of a script whose --help fits a screen: of the script's header the first paragraph and the
    commands, then the options."""
    parts = doc.strip().split("\n\n")
    commands = next(p for p in parts if p.startswith("Commands")).split("\nData")[0]
    card = f"{parts[0]}\n\n{commands}\n\nData, results, times, departures: at the top of the script."
    formatter = partial(argparse.RawDescriptionHelpFormatter, max_help_position=30, width=110)
    return argparse.ArgumentParser(usage="python %(prog)s [options]", description=card, epilog=epilog,
                                   formatter_class=formatter)


def at_least(low: float, kind: type = int) -> Callable[[str], float]:
    """argparse's type for numbers that are finite and not below low."""
    def number(text: str) -> float:
        if not low <= kind(text) < math.inf:
            whole = "whole " * (kind is int)
            raise argparse.ArgumentTypeError(f"{text}: expected a {whole}number of at least {low}")
        return kind(text)
    return number


def add_common_args(parser: argparse.ArgumentParser, batch_size: int = 32,
                    limit: str = "use only the first N images (default: all)") -> None:
    """The arguments that mean the same in every script."""
    add = parser.add_argument_group("common").add_argument
    add("--data", default="demo", help="data folder, or demo: the built-in demo world (default: demo)")
    add("--out", type=Path, help="output folder (default: runs/<script>/<tag>)")
    add("--weights", type=Path, help="weight file to use instead of the model's own")
    add("--device", help="cuda, mps or cpu (default: the first available)")
    add("--dtype", default="float32", choices=["float32", "bfloat16"], help="of frozen models (%(default)s)")
    add("--batch-size", type=at_least(1), default=batch_size,
        help="images a batch, all processes (%(default)s)")
    add("--workers", type=at_least(0), default=min(2, os.cpu_count() or 1),
        help="decoding processes; 0: none beside the main one (%(default)s)")
    add("--seed", type=at_least(0), default=0, help="of every random draw (%(default)s)")
    add("--limit", type=at_least(1), help=limit)
    add("--resume", action="store_true", help="go on with an interrupted run of the same arguments")
    add("--plot-only", action="store_true", help="redraw figures and table from the files of a run")


@contextmanager
def atomic_write(path: Path | str, mode: str = "w"):
    """A file opened for writing under a temporary name and renamed when complete: at any moment, also after
    kill -9, `path` is absent, the old file, or the whole new one."""
    path = Path(path)
    tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(tmp, mode, **({} if "b" in mode else {"newline": "", "encoding": "utf-8"})) as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.replace(tmp, path)
    except OSError as e:  # read-only, no space, no folder; an error about another file is the caller's
        if e.filename and Path(e.filename) not in (tmp, path, *path.parents):
            raise
        raise InputError(f"cannot write {path} ({e.strerror or e}); make room or change --out.") from e
    finally:
        with suppress(OSError):  # after the rename there is nothing to remove
            tmp.unlink()


def save_checkpoint(obj, path: Path | str) -> None:
    """torch.save of tensors, numbers, strings, lists and dicts, atomically."""
    buffer = io.BytesIO()  # torch.save would turn a full disk into an error of its own
    torch.save(obj, buffer)
    with atomic_write(path, "wb") as f:
        f.write(buffer.getbuffer())


def load_checkpoint(path: Path | str):
    """A checkpoint of save_checkpoint on the CPU; never unpickles code."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"no checkpoint at {path}; give the path of an existing one.") from None
    except Exception as e:  # torch raises many kinds for a damaged or unsafe file
        raise InputError(f"{path} is not a readable checkpoint ({type(e).__name__}: {str(e)[:100]!r}); "
                         "delete it or give another.") from e


def save_arrays(path: Path | str, **arrays) -> None:
    """Arrays, tensors, lists as a compressed .npz, atomically."""
    with atomic_write(path, "wb") as f:
        np.savez_compressed(f, **{k: v.cpu().numpy() if isinstance(v, Tensor) else v
                                  for k, v in arrays.items()})


def write_json(obj, path: Path | str) -> None:
    """JSON, atomically. Arrays and tensors become lists, paths strings; JSON has neither NaN, which becomes
    null, nor infinity, which becomes "inf" or "-inf"."""
    def clean(v):
        if isinstance(v, dict):
            return {str(k): clean(x) for k, x in v.items()}
        if isinstance(v, (Tensor, np.ndarray, np.generic)):
            return clean(v.tolist())
        if isinstance(v, (list, tuple)):
            return [clean(x) for x in v]
        if isinstance(v, float) and not math.isfinite(v):
            return None if math.isnan(v) else str(v)
        return str(v) if isinstance(v, Path) else v
    with atomic_write(path) as f:
        json.dump(clean(obj), f, indent=1, ensure_ascii=False)


def read_json(path: Path | str,
              expected: str = "a whole JSON file of a run; remove it or choose another --out"):
    """The content of a JSON file. InputError: damaged."""
    with input_errors(path, expected):
        return json.loads(Path(path).read_text(encoding="utf-8"))


def read_arrays(path: Path | str, expected: str = "a whole .npz file of a run; remove it or choose another "
                "--out") -> dict[str, np.ndarray]:
    """The arrays of an .npz file; no code in it is run. InputError: damaged."""
    with input_errors(path, expected), np.load(path, allow_pickle=False) as arrays:
        return dict(arrays)


def write_csv(rows: Iterable[dict], path: Path | str) -> None:
    """Rows of equal keys as CSV with a header, atomically. Floats keep all their digits."""
    rows = iter(rows)
    first = list(itertools.islice(rows, 1))
    with atomic_write(path) as f:
        writer = csv.DictWriter(f, list(first[0]) if first else ["image", "condition"])
        writer.writeheader()
        writer.writerows(itertools.chain(first, rows))


TEXT_COLUMNS = ("image", "condition", "viewer", "group", "clip", "part")  # names: 01 is not 1


def read_csv(path: Path | str) -> list[dict]:
    """Rows of a CSV with a header; numbers become floats (not 1_000), the TEXT_COLUMNS stay text.
    InputError: no such file, a row of another length than the header."""
    def value(key, s):
        with suppress(ValueError):
            return s if key in TEXT_COLUMNS or "_" in s else float(s)
        return s
    with input_errors(path, "a CSV file with a header"), open(path, newline="", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
        for line, row in enumerate(rows, 2):
            if None in row or None in row.values():
                raise ValueError(f"row {line} is not as long as the header")
        return [{k: value(k, v) for k, v in row.items()} for row in rows]


def read_rows(path: Path) -> list[dict]:
    """read_csv; no rows where there is no file."""
    return read_csv(path) if path.exists() else []


class RowLog:
    """Per-image rows that survive a kill: each process appends one JSON line an image to its own part file.

    A line is whole or, after a kill, torn and ignored: that image is computed again. `done` holds the images
    that need no work, `merge` writes `per_image.csv` whole or not at all. The number of processes may change
    before a resume.
    """

    def __init__(self, folder: Path | str, resume: bool = False):
        self.folder = Path(folder)
        self.csv = self.folder / "per_image.csv"
        rank, _ = rank_world()
        part = self.folder / f"per_image.part{rank}.jsonl"
        with input_errors(self.folder, "a folder to write to; choose another --out"):
            if rank == 0:
                self.folder.mkdir(parents=True, exist_ok=True)
                for old in [] if resume else [self.csv, *self._parts()]:
                    old.unlink(missing_ok=True)
            barrier()
            self.file = open(part, "ab")
            self.file.truncate(part.read_bytes().rfind(b"\n") + 1)  # a torn last line goes
        barrier()
        self.done, self.keys = set(), set()
        for image, rows in self._images():
            self.done.add(image)
            self.keys |= {tuple(row) for row in rows}
        if len(self.keys) > 1 or any(k[:2] != ("image", "condition") for k in self.keys):
            raise InputError(f"{self.folder}: rows with {len(self.keys)} sets of columns; expected those of "
                             "one run, image and condition first: delete them or choose another --out.")

    def _parts(self) -> list[Path]:
        return sorted(self.folder.glob("per_image.part*.jsonl"))

    def _images(self) -> Iterator[tuple[str, list[dict]]]:
        """(image, rows) of the merged file and of all parts, sorted; one image at a time is in memory."""
        def of_csv():
            if self.csv.exists():
                with open(self.csv, newline="", encoding="utf-8") as f:
                    for image, rows in itertools.groupby(csv.DictReader(f), lambda r: r["image"]):
                        rows = list(rows)
                        if any(None in row or None in row.values() for row in rows):
                            raise ValueError(f"a row of {image} that is not as long as the header")
                        yield image, rows

        def of_parts():
            places = {}
            for part in self._parts():
                with open(part, "rb") as f:
                    at = 0
                    for line in f:
                        if line.endswith(b"\n"):
                            places.setdefault(json.loads(line)[0]["image"], (part, at))
                        at += len(line)
            for image, (part, at) in sorted(places.items()):
                with open(part, "rb") as f:
                    f.seek(at)
                    yield image, json.loads(f.readline())
        last = None
        with input_errors(self.folder, "the rows of an interrupted run; delete them or choose another --out"):
            for image, rows in heapq.merge(of_csv(), of_parts(), key=lambda found: found[0]):
                if not all(isinstance(row, dict) for row in rows):
                    raise ValueError(f"{image} has no rows")
                if image != last:  # else in the file and in a part: killed before the part was removed
                    yield image, rows
                last = image

    def rows(self) -> dict[str, list[dict]]:
        """Rows by image so far, of all processes."""
        barrier()
        return dict(self._images())

    def add(self, rows: Sequence[dict]) -> None:
        """All rows of one image, each with the columns image, condition, ...; a kill right after the call
        does not lose them. None becomes NaN. InputError: no row, rows of several images or with other columns
        than before or without those two, an image that is there already, a full disk."""
        rows = [{k: math.nan if v is None else v.item() if hasattr(v, "item") else v for k, v in row.items()}
                | ({"image": str(row["image"])} if "image" in row else {}) for row in rows]
        images, keys = {row.get("image") for row in rows}, {tuple(row) for row in rows} | self.keys
        if len(images) != 1 or len(keys) != 1 or images & self.done or \
                {*keys}.pop()[:2] != ("image", "condition"):
            raise InputError(f"{len(rows)} rows of {len(images)} images with {len(keys)} sets of columns; "
                             "expected all rows of one image that has none yet.")
        self.keys = keys
        self.done |= images
        with input_errors(self.folder, "a disk with room; free some and --resume"):
            self.file.write(json.dumps(rows).encode() + b"\n")
            self.file.flush()

    def merge(self, read: bool = True) -> list[dict]:
        """Write `per_image.csv`, sorted by image and condition, and return its rows (all processes); without
        `read` none, for tables too large for a list of dicts."""
        self.file.close()
        barrier()
        if rank_world()[0] == 0:
            write_csv((row for _, rows in self._images()
                       for row in sorted(rows, key=lambda r: str(r["condition"]))), self.csv)
            for part in self._parts():
                part.unlink()
        barrier()
        return read_csv(self.csv) if read else []


def image_name(path: Path | str) -> str:
    """<class>/<file>: the image's name in all results. File names alone repeat in many data sets."""
    return "/".join(Path(path).parts[-2:])


def slices(items: Sequence, size: int) -> list[list]:
    """The items in batches, the last one shorter."""
    return [list(items[i:i + size]) for i in range(0, len(items), size)]


# Arguments that may differ between a run and its resumption: they change where and how fast, not what.
DATA_ARGS = ("data", "salicon", "coco", "imagenet", "objectnet", "maps", "saliency_dir")  # never written to
_FREE_ARGS = {"resume", "plot_only", "workers", "device", "out"}


def demo_folder(*parts: str, **how) -> Path:
    """The demo world's folder; the first process draws the parts (demo.PARTS) that are not there."""
    import demo  # only here: real data need no demo world
    with first_process_first():
        return demo.demo_world(parts=parts, **how)


def start_run(args: argparse.Namespace, script: str, tag: str, *, free: Iterable[str] = (),
              parts: Iterable[str] = ()) -> Path:
    """The run's folder, `--out` or runs/<script>/<tag>, with its arguments in args.json. free: arguments that
    may change before a --resume, beside _FREE_ARGS: no kept file depends on them. parts: patterns of other
    files that hold what was measured.

    A new run first removes rows and results of an old one, so that nothing later mixes the two. InputError:
    --resume with other arguments than the run was started with, --plot-only without a run, a folder inside
    the data.
    """
    folder = Path(args.out or Path("runs") / script / tag)
    named = [(name, getattr(args, name, None)) for name in DATA_ARGS]
    for name, data in [(k, d) for k, v in named for d in (v if isinstance(v, list) else [v])]:
        if data and Path(data).is_dir() and Path(data).resolve() in (p := folder.resolve(), *p.parents):
            raise InputError(f"results would be written into the data ({folder} in --{name} {data}); choose "
                             "an --out elsewhere.")
    manifest, rows = folder / "args.json", list(folder.glob("per_image.*"))
    rows += folder.glob("*/per_image.*") if manifest.exists() else ()  # of the run's parts
    rows += (file for pattern in parts for file in folder.glob(pattern))
    rows += folder.glob("linear_head.pth") if getattr(args, "train_head", False) else ()  # fitted anew
    torn = [p for sub in ("", "*/")[:1 + manifest.exists()] for p in folder.glob(f"{sub}.*.[0-9]*.tmp")]
    fixed = {k: v for k, v in vars(args).items() if k not in {*_FREE_ARGS, *free}}
    now = json.loads(json.dumps(fixed, default=str))
    if args.plot_only:
        if not (folder / "results.json").exists():
            raise InputError(f"--plot-only: no finished run in {folder}; run once without it first.")
        return folder
    if args.resume and manifest.exists():
        with input_errors(manifest, "the arguments of a run; choose another --out"):
            before = dict(read_json(manifest))
        changed = sorted(k for k in before.keys() | now.keys() if before.get(k) != now.get(k))
        if changed:
            was = ", ".join(f"{k} {before.get(k)} -> {now.get(k)}" for k in changed)
            raise InputError(f"--resume: {folder} was started with other arguments ({was}); repeat its "
                             "arguments, or choose another --out.")
    elif args.resume and any(old.exists() for old in (*rows, *folder.glob("*.pt"))):
        raise InputError(f"--resume: {folder} has rows or a checkpoint but no args.json that says how they "
                         "were made; run without --resume, or choose another --out.")
    barrier()
    if rank_world()[0] == 0:
        with input_errors(folder, "a folder whose old results can be replaced; choose another --out"):
            for old in torn if args.resume else (*torn, *rows, folder / "results.json"):
                old.unlink(missing_ok=True)  # torn: what atomic_write could not rename before a kill
        write_json(now, manifest)
    barrier()
    return folder


def redraw(folder: Path, draw: Callable[[dict], None]) -> None:
    """--plot-only: draw(results) and the table, from the files of a finished run. InputError: damaged."""
    expected = "the files of a finished run; run it again without --plot-only"
    with input_errors(folder, expected):
        draw(results := read_json(folder / "results.json", expected))
        print_paper_vs_ours(results)


def new_figure(columns: int, width: float = 3.2, height: float = 3.) -> tuple[Figure, list[Axes]]:
    """A row of panels, each width x height inches; no window, no global state."""
    fig, axes = figure_grid(1, columns, width, height)
    return fig, axes[0]


def figure_grid(rows: int, columns: int, width: float = 3.2, height: float = 3., **how
                ) -> tuple[Figure, np.ndarray]:
    """Panels (rows, columns), each width x height inches. how: sharey, width_ratios, ... of subplots."""
    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False, **how)
    for ax in axes.flat:
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def save_figure(fig, path: Path | str, legends: bool = False, pictures: bool = False) -> None:
    """A matplotlib figure as path.png and path.pdf (path without an ending), each atomically; the same
    figure gives the same bytes. legends: every panel with labels and none yet gets one; pictures: no axes."""
    for ax in fig.axes:
        if pictures:
            ax.axis("off")
        if legends and ax.get_legend() is None and ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=6, handlelength=3, ncols=1 + (len(ax.lines) > 9))
    for kind, metadata in (("png", None), ("pdf", {"CreationDate": None})):
        with atomic_write(Path(f"{path}.{kind}"), "wb") as f:
            fig.savefig(f, format=kind, dpi=150, metadata=metadata)


def fingerprint(paths: Iterable[Path | str]) -> str:
    """Data fingerprint: the first 16 hex digits of the SHA-256 of the sorted (name, size) of the files."""
    def size(p: Path) -> int | str:
        return p.stat().st_size if p.exists() else "missing"  # such as a dead link, left out of the run
    lines = sorted(f"{p.name} {size(p)}" for p in map(Path, paths))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def result_row(name: str, values: Sequence[float], unit: str | None, paper=None,
               stat: Callable = np.mean) -> dict:
    """Line of the table paper | ours: mean (or stat) of the values with its bootstrap 95 % interval."""
    return dict(name=name, paper=paper, ours=float(stat(values)), ci=bootstrap_ci(values, stat),
                n=len(values), unit=unit)


def write_results(folder: Path, study: str, data: str, headline: Sequence[dict], args: argparse.Namespace,
                  seconds: float, device: torch.device, tests: Sequence[dict] = (),
                  not_run: Sequence[str] = (), files: Iterable[Path | str] = (), **more) -> dict:
    """results.json of a run, by rank 0, also returned. headline: dicts name, paper, ours, ci, n, unit;
    files: the data's, for their fingerprint."""
    git = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    commit = ""
    with suppress(OSError):  # no git
        if (ROOT / ".git").exists():
            commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True).stdout.strip()
    cuda = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    results = {
        "study": study, "data": data,
        "headline": [{k: h.get(k) for k in ("name", "paper", "ours", "ci", "n", "unit")} for h in headline],
        "tests": list(tests), "not_run": list(not_run), "args": vars(args),
        "versions": {"python": platform.python_version(), "torch": torch.__version__,
                     "numpy": np.__version__},
        "git": commit or "unknown", "device": cuda or f"{device.type}, {torch.get_num_threads()} threads",
        "seconds": round(seconds, 1), "data_fingerprint": fingerprint(files), **more}
    if rank_world()[0] == 0:
        write_json(results, folder / "results.json")
    return results


def print_paper_vs_ours(results: dict) -> None:
    """The table that ends every script, by rank 0: paper | ours | 95 % CI | n, then what was not run."""
    def show(v) -> str:
        if isinstance(v, (list, tuple)):
            return " to ".join(map(show, v))
        number = isinstance(v, (float, np.floating))
        return "-" if v is None or number and math.isnan(v) else f"{v:.4g}" if number else str(v)
    if rank_world()[0] > 0:
        return
    keys = ("name", "paper", "ours", "ci", "n", "unit")
    rows = [["", "paper", "ours", "95 % CI", "n", "unit"]]
    rows += [[show(h.get(k)) for k in keys] for h in results["headline"]]
    widths = [max(len(r[i]) for r in rows) for i in range(6)]
    for i, row in enumerate(rows):
        cells = [f.rjust(w) if 0 < j < 5 else f.ljust(w) for j, (f, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip())
        if i == 0:
            print("-" * (sum(widths) + 10))
    for part in results.get("not_run", ()):
        print(f"not run: {part}")
    if results.get("data") == "demo":
        print("These are numbers of the built-in demo world, not the paper's data.")
