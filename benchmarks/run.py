"""Every benchmark, ours and theirs in one run: writes table.json and, from it, README.md.

    python -m venv runs/bench && runs/bench/bin/pip install -r benchmarks/requirements.txt
    runs/bench/bin/pip install --no-deps --target runs/peers/imagecorruptions-1.1.2 imagecorruptions==1.1.2
    runs/bench/bin/python benchmarks/run.py                       # a quarter of an hour on one CPU core
    python benchmarks/run.py --quick --out FOLDER            # seconds: shows that all run, measures nothing
    python benchmarks/launches.py                  # kernels and waits of a batch, counted without a GPU
"""
import argparse
import importlib
import json
import os
import platform
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bench import COLUMNS, NO_PEER, Row, cells, show  # before torch: it quietens the profiler

import torch

BENCHES = "saccades", "rollout", "metrics", "corruptions", "gbvs", "biases", "gaze_video", "kl_sweep"
PEERS = "transformers", "pysaliency", "imagecorruptions-imaug", "scikit-image", "numpy", "scipy"
TEXT = """# Benchmarks: this project beside what a user would use instead

    python -m venv runs/bench && runs/bench/bin/pip install -r benchmarks/requirements.txt
    runs/bench/bin/pip install --no-deps --target runs/peers/imagecorruptions-1.1.2 imagecorruptions==1.1.2
    runs/bench/bin/python benchmarks/run.py

writes this page. Ours and theirs take turns in one run on one thread; a number is the median, over the
rounds, of the process's CPU time, which other work on the machine hardly changes (GPU rows: wall time until
the GPU is done). n: timed rounds x items a round, after a round to warm up. A target is the theirs / ours
that was asked for before anything was measured. Memory: tensors alive at the peak of a call, beyond weights
and input.

{machine}

{table}

Where a target is missed
* CLS maps at 1,350 tokens: they cost what the plain fused forward costs, and no map can be read from a
  forward pass for less; the row of the plain forward says how far that bound lies from eager attentions.
* Five metrics at thousands of fixations: both sides pass a few times over 50,176 float64 values; more than
  half of our time orders them for AUC-Judd, the rest is the other four.

Where a single row is behind its peer
* NSS: pysaliency is told the fixated pixels and reads one map; ours is given the map of counts of a batch
  beside it, and reading, checking and weighting by that second map is nearly half of its time.
* AUC-Judd at 60 fixations, defocus_blur, fog, glass_blur, exp03: by a tenth or less. glass_blur's peer lets pixels
  change places in a compiled loop (numba); ours follow all of them at once.
* pixelate, jpeg_compression: both sides call Pillow for the same work, which takes a third of a millisecond;
  what remains is the way of a tensor's planes into a picture and back.

Kernels that a GPU would start for a batch, and how often the processor would wait for it, counted without a
GPU by `python benchmarks/launches.py`; before: the same works on commit 5b73d67, whose GBVS has one set of
channels (`gbvs`, of "DIO") and is compared by that. Counts, not times: GBVS starts more kernels than before.

| a batch | launches before | now | waits before | now |
| --- | --- | --- | --- | --- |
| CLS maps of all blocks, 32 images | 186 | 186 | 0 | 0 |
| exp04: ten saccades of 32 images, attention and random, foveas 3 and 5 | 23,051 | 2,384 | 6 | 1 |
| five metrics of 32 maps | 145 | 133 | 16 | 10 |
| GBVS of 8 frames, channels D, I and O | 202 | 274 | 1 | 1 |
| GBVS of 8 frames, all channels and each | | 364 | | 2 |
| 15 corruptions of 32 images | 2,160 | 1,770 | 17 | 17 |

CPU time of one thread, the same works on that commit and now, in turns in one run on 2026-11-29, medians of
9, torch 2.14. The machine was shared and busy, so the milliseconds are above those of the rows; the ratios
are less affected. Above 1: faster now.

| work | 5b73d67 | now | before / now |
| --- | --- | --- | --- |
| exp04: the visible tokens of 2 images, ten saccades, foveas 3 and 5, ViT-S/16 | 1,960 ms | 1,372 ms | 1.43 |
| five metrics of 4 maps, 60 fixations | 22.3 ms | 15.5 ms | 1.44 |
| five metrics of 4 maps, 7,400 fixations | 20.6 ms | 16.2 ms | 1.27 |
| CC | 1.26 ms | 0.77 ms | 1.62 |
| NSS, 60 fixations | 1.51 ms | 1.00 ms | 1.51 |
| AUC-Judd, 60 fixations | 9.54 ms | 9.41 ms | 1.01 |
| KL | 2.92 ms | 1.88 ms | 1.55 |
| SIM | 1.33 ms | 0.74 ms | 1.81 |
| 15 corruptions of an image | 50.2 ms | 45.4 ms | 1.11 |
| exp05: every head's gaze in 2 frames of 256x192 | 244 ms | 250 ms | 0.97 |
| exp05: a training step of DINO, ten views of 8 small images | 166 ms | 161 ms | 1.03 |
"""


def machine() -> str:
    """Processor, cores, versions, day."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    model = next((s.split(":")[1].strip() for s in lines if s.startswith("model name")), platform.processor())
    found = []
    for name in PEERS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} not installed")
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    found = [f"Python {platform.python_version()}", f"torch {torch.__version__}", *found]
    return (f"Machine: {model}, {os.cpu_count()} cores, one thread used; {gpu}; {', '.join(found)}; "
            f"{time.strftime('%Y-%m-%d')}.")


def page(record: dict) -> str:
    """README.md of a table.json."""
    lines = [COLUMNS, ["---"] * len(COLUMNS)]
    for name, rows in sorted(record["rows"].items(), key=lambda item: BENCHES.index(item[0])):
        lines += [[f"**`bench_{name}.py`**"] + [""] * (len(COLUMNS) - 1), *(cells(Row(**r)) for r in rows)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return TEXT.format(machine=record["machine"], table=table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny sizes: shows that all run")
    parser.add_argument("--out", type=Path, help="folder of table.json and README.md (default: benchmarks/)")
    parser.add_argument("--only", nargs="+", choices=BENCHES, default=BENCHES,
                        help="measure these again and keep the other rows of the same machine and day")
    args = parser.parse_args()
    if args.quick and not args.out:
        parser.error("--quick measures nothing, so it needs an --out FOLDER of its own.")
    out = args.out or Path(__file__).resolve().parent
    torch.set_num_threads(1)
    file, record = out / "table.json", {"machine": machine(), "rows": {}}
    if args.only != BENCHES and file.exists():
        kept = json.loads(file.read_text(encoding="utf-8"))
        if kept["machine"] != record["machine"]:
            parser.error(f"--only: {file} is of another machine or day; measure all.")
        record = kept
    out.mkdir(parents=True, exist_ok=True)
    with torch.no_grad():
        for name in args.only:
            rows = importlib.import_module(f"bench_{name}").rows
            record["rows"][name] = [row._asdict() for row in show(rows(args.quick))]
            file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
            (out / "README.md").write_text(page(record), encoding="utf-8")
    missing = sum(row["note"] == NO_PEER for rows in record["rows"].values() for row in rows)
    print(f"{out / 'README.md'} written" + (f"; {missing} comparisons {NO_PEER}" if missing else ""))


if __name__ == "__main__":
    main()
