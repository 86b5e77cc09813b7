"""Every study, on the demo world and on whatever data are present, and the README's tables from the results.

Commands
    laptop, demo world    python reproduce.py
    with data             python reproduce.py --data DATA
    eight GPUs            python reproduce.py --data DATA --processes 8
    some studies          python reproduce.py --data DATA --only exp04 exp06_osie
    other options         python reproduce.py --data DATA --add exp01_osie "--model dinov2_vits14"
    short form            python reproduce.py --short
    tables alone          python reproduce.py --tables
Data: DATA holds any of salicon/ coco/ imagenet/ objectnet/ osie/ n2010/ cw2019/ objects/, each laid out as
the README says under its study. A study whose data are absent is named and left out.

A run is one command of one script, in runs/reproduce/<study>_<data>/ (or --out). The same command after an
interruption goes on: what is finished is not run again, the rest gets --resume. The headline numbers of a
finished run, its command, seconds and peak memory go to docs/results/<study>_<data>.json, and all these files
into the blocks of README.md from <!-- table: study --> to <!-- end -->. --short: few images, figures and
tables in --out alone, no file of the project changes: it shows that everything runs.
Time, two cores of a busy machine: the demo 25 minutes, the short form 2.
"""
from __future__ import annotations

import argparse
import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from common import ROOT, InputError
from results import argument_parser, atomic_write, cli, write_json

SCRIPTS = {"exp01": "exp01_finetune_vit.py", "exp02": "exp02_resnet.py", "exp03": "exp03_biases.py",
           "exp04": "exp04_saccades.py", "exp05": "exp05_gaze_video.py", "train": "exp05_train_vits.py",
           "exp06": "exp06_gaze_objects.py"}
# A run: study, data, arguments; its name is study_data. {folder}: of DATA; {exp01_salicon}: of another run.
# An option whose folder is absent is left out.
DEMO_RUNS = (("exp01", "demo", ""), ("exp02", "demo", ""), ("exp03", "demo", ""), ("exp04", "demo", ""),
             ("exp04", "demo-sweep", "--sweep --saliency --limit 60 --fovea 3"), ("exp05", "demo", ""),
             ("train", "demo", "--eval"), ("exp06", "demo", ""), ("exp06", "demo-blur", "--blur attention"))
DATA_RUNS = (
    ("exp01", "salicon", "--salicon {salicon} --coco {coco} --imagenet {imagenet} --objectnet {objectnet}"),
    ("exp02", "salicon", "--salicon {salicon} --coco {coco} --imagenet {imagenet}"),
    ("exp03", "salicon", "--salicon {salicon} --coco {coco} --model-b {exp01_salicon}/tuned_B.pth "
                         "--model-c {exp01_salicon}/tuned_C.pth"),
    ("exp01", "osie", "--salicon {osie}"), ("exp02", "osie", "--salicon {osie}"),
    ("exp04", "imagenet", "--data {imagenet}"),
    ("exp04", "imagenet-sweep", "--data {imagenet} --sweep --saliency"),
    ("exp05", "n2010", "--data {n2010}"), ("exp05", "cw2019", "--data {cw2019}"),
    ("exp06", "objects", "--data {objects}"), ("exp06", "osie", "--data {osie}"),
    ("exp06", "osie-blur", "--data {osie} --blur attention"))
SHORT = {"exp01": "--limit 24 --epochs 1 --eval-every 1 --imagenet-c-images 2", "exp03": "--limit 24",
         "exp02": "--limit 24 --epochs 1 --eval-every 1", "exp04": "--limit 12", "exp05": "--limit 8",
         "train": "--limit 60", "exp06": "--limit 3"}
FOLDERS = "salicon", "coco", "imagenet", "objectnet", "osie", "n2010", "cw2019", "objects"
SHOWN = {  # headline rows of the README's tables, as regular expressions; the others are in docs/results/
    "exp01": r"(CC|NSS|AUC|KL|SIM), .|images .*|COCO .*|r\(.*|.* top-1, .|.*B - A|BF01 .*",
    "exp02": r"(CC|NSS|AUC|KL|SIM), .|images .*|COCO .*|.* top-1, .|.*B - A",
    "exp03": r"(animacy|size), \w+: (mean .*|d)|sparsity, \w+: entropy|.*: [BC] - [AC]: (mean .*|t|d)",
    "exp04": r".*", "exp05": r".*", "train": r".*", "exp06": r".*"}


class Run(NamedTuple):
    study: str
    data: str
    argv: list[str]

    @property
    def name(self) -> str:
        return f"{self.study}_{self.data}"


def find_runs(data: Path | None, out: Path, add: dict[str, str], short: bool) -> tuple[list[Run], list[str]]:
    """The runs whose data are there, and the others' names. add: more arguments, by study or by name."""
    places = {name: data / name for name in FOLDERS if data and (data / name).is_dir()}
    places |= {f"{study}_{d}": out / f"{study}_{d}" for study, d, _ in DATA_RUNS}
    runs = [Run(study, d, shlex.split(f"{options} {SHORT[study] if short else ''}"))
            for study, d, options in DEMO_RUNS]
    absent = [f"{study}_{d}" for study, d, _ in DATA_RUNS if d.split("-")[0] not in places]
    for study, d, options in DATA_RUNS:
        if d.split("-")[0] in places:
            pairs = re.findall(r"(--\S+)(?: \{(\w+)\}(\S*)| (?!--)(\S+))?", options)
            argv = [word for option, place, rest, plain in pairs if not place or place in places
                    for word in (option, str(places[place]) + rest if place else plain) if word]
            more = f"{add.get(study, '')} {add.get(f'{study}_{d}', '')} {SHORT[study] if short else ''}"
            runs.append(Run(study, d, argv + shlex.split(more)))
    return runs, absent


def carry_out(run: Run, folder: Path, processes: int) -> int:
    """Start or go on with a run in its folder; the exit status. What it took is in folder/reproduce.json."""
    note, began = folder / "reproduce.json", time.time()
    before = json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}
    command = [SCRIPTS[run.study], *run.argv]
    resume = before.get("argv") == command and any(folder.rglob("args.json"))
    write_json({"argv": command, "status": "interrupted"}, note)
    parallel = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    child = subprocess.Popen([sys.executable, *(parallel if processes > 1 else []), str(ROOT / command[0]),
                              *run.argv, "--out", str(folder), *["--resume"] * resume])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    memory = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    write_json({"argv": command, "status": child.returncode, "resumed": resume, "processes": processes,
                "seconds": time.time() - began, "memory_mb": memory}, note)
    return child.returncode


def is_done(run: Run, folder: Path) -> bool:
    note = folder / "reproduce.json"
    return note.exists() and (found := json.loads(note.read_text(encoding="utf-8"))) and \
        found["status"] == 0 and found["argv"] == [SCRIPTS[run.study], *run.argv]


def summary(run: Run, folder: Path, data: Path | None) -> dict:
    """What docs/results/ keeps of a finished run. Absolute paths become DATA/... or their last name."""
    result = json.loads(next(folder.rglob("results.json")).read_text(encoding="utf-8"))
    took = json.loads((folder / "reproduce.json").read_text(encoding="utf-8"))

    def short(word: str) -> str:
        path = Path(word)
        inside = data and path.is_relative_to(data)
        return str("DATA" / path.relative_to(data)) if inside else path.name if path.is_absolute() else word

    return {"study": run.study, "data": run.data, "command": shlex.join(map(short, took["argv"])),
            "seconds": None if took["resumed"] else round(took["seconds"]), "processes": took["processes"],
            "memory_mb": round(took["memory_mb"]), **{k: result[k] for k in ("device", "versions", "git")},
            "headline": result["headline"], "not_run": result["not_run"]}


def show(v) -> str:
    """Three digits of a number."""
    if isinstance(v, (list, tuple)):
        return " to ".join(map(show, v))
    if v is None or v != v:
        return "-"
    return f"{v:#.3g}".rstrip(".") if isinstance(v, float) and math.isfinite(v) else str(v)


def table(runs: Sequence[dict], shown: str) -> str:
    """Markdown: a row a headline number, the paper's value, a column a run; then commands, times, not run.

    Rows "name, A", "name, B" ... become one. A cell: value (95 % interval) unit, n."""
    rows: dict[str, dict[str, dict]] = {}
    for i, run in enumerate(runs):
        for h in run["headline"]:
            if re.fullmatch(shown, h["name"].strip()):
                name, _, source = re.fullmatch(r"(.*?)(, ([ABC]))?", h["name"].strip()).groups()
                cells, mark = rows.setdefault(name, {}), f"{source} " if source else ""
                ci = f" ({show(h['ci'])})" if h["ci"] and h["ci"][0] is not None else ""
                ours = f"{mark}{show(h['ours'])}{ci} {h['unit'] or ''}".strip() + f", n {h['n']}"
                cells.setdefault("paper", {})[mark] = f"{mark}{show(h['paper'])}"
                cells.setdefault(i, {})[mark] = ours
    keys = ["paper", *range(len(runs))]
    lines = ["| | paper | " + " | ".join(run["data"] for run in runs) + " |", "|---" * (len(runs) + 2) + "|"]
    for name, cells in rows.items():
        texts = [list(cells.get(k, {}).values()) for k in keys]
        texts = [["-"] if all(v.endswith("-") for v in t) else t for t in texts]
        lines.append(f"| {name} | " + " | ".join("<br>".join(t) for t in texts) + " |")
    lines.append("")
    for run in runs:
        took = f"{run['seconds']} s, " if run["seconds"] else ""
        parts = f"; not run: {'; '.join(run['not_run'])}" if run["not_run"] else ""
        lines.append(f"* {run['data']}: `python {run['command']}` ({took}{run['memory_mb']:,} MB, "
                     f"{run['device']}){parts}")
    return "\n".join(lines)


def write_tables(results: Path, readme: Path) -> None:
    """The blocks of the README from docs/results/*.json; InputError for a study without a block."""
    found = [json.loads(f.read_text(encoding="utf-8")) for f in sorted(results.glob("*.json"))]
    text = readme.read_text(encoding="utf-8")
    for study in SCRIPTS:
        runs = [r for r in found if r["study"] == study]
        runs.sort(key=lambda r: not r["data"].startswith("demo"))  # the demo first
        block = re.compile(rf"(<!-- table: {study} -->\n).*?(<!-- end -->)", re.DOTALL)
        if runs and not block.search(text):
            raise InputError(f"{readme}: no line <!-- table: {study} --> with an <!-- end --> after it; put "
                             "them where the table shall stand.")
        if runs:
            text = block.sub(lambda m: f"{m[1]}\n{table(runs, SHOWN[study])}\n\n{m[2]}", text)
    with atomic_write(readme) as f:
        f.write(text)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    p.add_argument("--data", type=Path, help="folder with salicon/, coco/ ... (default: demo alone)")
    p.add_argument("--out", type=Path, default=Path("runs/reproduce"), help="%(default)s")
    p.add_argument("--only", nargs="+", default=[], metavar="RUN",
                   help="studies (exp04) or runs (exp04_demo)")
    p.add_argument("--add", nargs=2, action="append", default=[], metavar=("RUN", "OPTIONS"),
                   help="more options for a study's runs on data, or for one of them")
    p.add_argument("--processes", type=int, default=1, help="of torchrun, such as GPUs (default: 1, without)")
    p.add_argument("--short", action="store_true", help="a few images each; the README stays")
    p.add_argument("--tables", action="store_true", help="rewrite the README's tables and run nothing")
    args = p.parse_args(argv)
    if args.data and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder; expected one with {', '.join(FOLDERS)}.")
    known = {*SCRIPTS, *(f"{study}_{d}" for study, d, _ in DEMO_RUNS + DATA_RUNS)}
    if unknown := {*args.only, *(name for name, _ in args.add)} - known:
        raise InputError(f"{sorted(unknown)[0]} is no study or run; expected {', '.join(sorted(known))}.")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    results = args.out / "results" if args.short else ROOT / "docs" / "results"
    if args.tables:
        return write_tables(results, ROOT / "README.md")
    runs, absent = find_runs(args.data, args.out, dict(args.add), args.short)
    wanted = set(args.only) or {*SCRIPTS}
    runs = [r for r in runs if {r.study, r.name} & wanted]
    failed = []
    for run in runs:
        folder = args.out / run.name
        if is_done(run, folder):
            print(f"{run.name}: done before")
        else:
            print(f"\n{run.name}: python {shlex.join([SCRIPTS[run.study], *run.argv])}", flush=True)
            if status := carry_out(run, folder, args.processes):
                failed.append(f"{run.name} (status {status})")
                continue
        write_json(summary(run, folder, args.data), results / f"{run.name}.json")
    if args.short:
        for run in runs:
            if (file := results / f"{run.name}.json").exists():
                print(f"\n{run.name}\n{table([json.loads(file.read_text())], SHOWN[run.study])}")
    else:
        write_tables(results, ROOT / "README.md")
    for name in (a for a in absent if {a, a.split("_")[0]} & wanted):
        print(f"not run: {name}, no {args.data or 'DATA'}/{name.split('_')[1].split('-')[0]}")
    if failed:
        raise InputError(f"{', '.join(failed)} failed, see above; when mended, the same command goes on.")
    print(f"{len(runs)} runs done, their figures in {args.out}/")


if __name__ == "__main__":
    cli(main)
