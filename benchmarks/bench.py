"""What the benchmarks share: rows of the table, functions timed in turns, memory of a call.

Every bench_*.py has rows(quick), which yields Row after Row as they are measured; run alone it prints them.
quick takes sizes too small to mean anything: it shows that a benchmark runs, peers installed or not.
"""
from __future__ import annotations

import argparse
import importlib
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from itertools import accumulate
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler's own messages; before torch is imported

import torch  # noqa: E402

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]  # the scripts that are measured
NO_PEER = "not run: pip install -r benchmarks/requirements.txt"
NO_GPU = "awaits a GPU"


class Row(NamedTuple):
    """One line of the table: costs, so that less is better and theirs / ours says how many times better."""
    work: str                     # what is computed
    other: str = ""               # what it is compared with; "": nothing
    unit: str = "ms/image"
    ours: float | None = None     # None: could not be measured, see note
    theirs: float | None = None
    n: str = ""                   # timed rounds x items of a round
    target: float | None = None   # of theirs / ours
    note: str = ""                # why ours or theirs is missing


def optional(name: str) -> ModuleType | None:
    """The module, or None where it is not installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of packages that import what their own dependencies deprecate
        try:
            return importlib.import_module(name)
        except ImportError:
            return None


def seconds(work: Callable[[], object], gpu: bool = False) -> float:
    """CPU time of this process, which other work on the machine hardly changes; gpu: wall time until done."""
    clock = time.perf_counter if gpu else time.process_time
    start = clock()
    work()
    if gpu:
        torch.cuda.synchronize()
    return clock() - start


def take_turns(work: dict[str, Callable[[], object]], rounds: int,
               gpu: Iterable[str] = ()) -> dict[str, float]:
    """Median seconds of each function, called in turns, after one round to warm up. gpu: names of those whose
    work is done on a GPU."""
    times = [{name: seconds(f, name in gpu) for name, f in work.items()} for _ in range(rounds + 1)][1:]
    return {name: statistics.median(t[name] for t in times) for name in work}


def peak_mib(work: Callable[[], object]) -> float:
    """MiB of the tensors that a call has alive at its peak, on top of those before it: on the CPU what
    torch.cuda.max_memory_allocated counts on a GPU. Unlike a process's resident set it does not depend on
    what the allocator has kept from earlier calls."""
    with tempfile.TemporaryDirectory() as folder:
        with torch.profiler.profile(profile_memory=True) as prof:
            work()
        prof.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text(encoding="utf-8"))["traceEvents"]
    changes = sorted((e for e in events if e["name"] == "[memory]"), key=lambda e: e["ts"])
    return max(accumulate((e["args"]["Bytes"] for e in changes), initial=0)) / 2**20


def number(x: float) -> str:
    """Three digits: 0.0123, 1.23, 12.3, 1,234."""
    return f"{x:,.0f}" if x >= 99.95 else f"{x:#.3g}".rstrip(".")


COLUMNS = "work", "ours", "theirs", "compared with", "theirs / ours", "target", "n"


def cells(row: Row) -> list[str]:
    """The row as text, in COLUMNS."""
    both = row.ours is not None and row.theirs is not None
    target = f"{row.target:g}" if row.target else ""
    if both and target:
        target += ", met" if row.theirs / row.ours >= row.target else ", **missed**"
    ours, theirs = (f"{number(x)} {row.unit}" if x is not None else row.note for x in (row.ours, row.theirs))
    return [row.work, ours, theirs, row.other, f"{row.theirs / row.ours:.2f}" if both else "", target, row.n]


def show(rows: Iterable[Row]) -> list[Row]:
    """Print each row when it is there; all of them."""
    found = []
    for row in rows:
        print(" | ".join(cells(row)), flush=True)
        found.append(row)
    return found


def main(rows: Callable[[bool], Iterable[Row]], doc: str) -> None:
    """The command line of a bench_*.py."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that it runs")
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(" | ".join(COLUMNS))
    with torch.no_grad():
        show(rows(args.quick))
