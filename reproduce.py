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
interruption goes on: what is finished is not run again, the rest gets --resume. When all is through, the
headline numbers of the finished runs, their commands, seconds and peak memory go to docs/results/, and from
there into the blocks of README.md from <!-- table: study --> to <!-- end -->; its pictures go to docs/.
--short: few images, in runs/reproduce_short, no file of the project changes: it shows that everything runs.
Training on ImageNet takes days and is not among the runs; docs/full_runs.md has its commands.
Time, one core of a 2-core machine: the demo 16 minutes, the short form 3.
"""
from __future__ import annotations

import argparse
import math
import os
import re
import shlex
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from PIL import Image

from common import ROOT, InputError, read_image
from legacy import argument_parser, at_least, atomic_write, cli, read_json, write_json

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
PICTURES = {  # of docs/: made from, upper part that is shown
    "saccades.png": ("exp04_demo/fig08_examples.png", .5), "gaze.png": ("exp05_demo/fig_gaze.png", 1),
    "attention.png": ("train_demo/eval/fig_attention.png", 1)}
PICTURE_WIDTH = 1000  # px
FOLDERS = "salicon", "coco", "imagenet", "objectnet", "osie", "n2010", "cw2019", "objects"
SHOWN = {  # headline rows of the README's tables, as regular expressions; the others are in docs/results/
    "exp01": r"(CC|NSS|AUC|KL|SIM), .|images .*|COCO .*|r\(.*|.* top-1, .|.*B - A|BF01 .*",
    "exp02": r"(CC|NSS|AUC|KL|SIM), .|images .*|COCO .*|.* top-1, .|.*B - A",
    "exp03": r"(animacy|size), \w+: (mean .*|d)|sparsity, \w+: entropy|.*: [BC] - [AC]: (mean .*|t|d)",
    "exp04": r"accuracy, full image|fovea .: (attention - random, saccade .*|gap .*|visible.*|correct.*)"
             r"|.*needed|.*lowest.*attention|fovea 5 - 3.*|accuracy, (.* - random|DINO.*)|loss.*"
             r"|ResNet.*, DINO.*",
    "exp05": r".*", "train": r".*", "exp06": r".*"}


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


def note_of(folder: Path) -> dict:
    """What `carry_out` noted in a run's folder: argv, status, seconds, memory_mb ...; {} before the first."""
    file = folder / "reproduce.json"
    return read_json(file) if file.exists() else {}


def carry_out(run: Run, folder: Path, processes: int) -> int:
    """Start or go on with a run in its folder; exit status. InputError: it holds another command's run."""
    command, before, began = [SCRIPTS[run.study], *run.argv], note_of(folder), time.time()
    if before and before["argv"] != command:
        raise InputError(f"{folder} holds a run of `{shlex.join(before['argv'])}`, not of `"
                         f"{shlex.join(command)}`; remove it, choose another --out or give the same options.")
    resume = any(folder.rglob("args.json"))
    write_json({"argv": command, "status": "interrupted"}, folder / "reproduce.json")
    parallel = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    child = subprocess.Popen([sys.executable, *(parallel if processes > 1 else []), str(ROOT / command[0]),
                              *run.argv, "--out", str(folder), *["--resume"] * resume])
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except BaseException:  # also SIGTERM, see main: no run goes on alone
        child.terminate()
        child.wait()
        raise
    child.returncode = os.waitstatus_to_exitcode(status)
    memory = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # of the largest process
    write_json({"argv": command, "status": child.returncode, "resumed": resume, "processes": processes,
                "seconds": time.time() - began, "memory_mb": memory}, folder / "reproduce.json")
    return child.returncode


def is_done(run: Run, folder: Path) -> bool:
    """Finished by this command, with results, after the files that it reads from other runs were made."""
    note, made = note_of(folder), folder / "reproduce.json"
    return note.get("status") == 0 and note["argv"] == [SCRIPTS[run.study], *run.argv] and \
        any(folder.rglob("results.json")) and \
        not any(Path(a).is_file() and Path(a).stat().st_mtime > made.stat().st_mtime for a in run.argv)


def summary(run: Run, folder: Path, data: Path | None) -> dict:
    """What docs/results/ keeps of a finished run. Absolute paths become DATA/... or their last name."""
    result, took = read_json(next(folder.rglob("results.json"))), note_of(folder)

    def short(text: str) -> str:
        text = text.replace(f"{data}/", "DATA/") if data else text
        return re.sub(r"(?<![\w.:/])(?:~|\.\.?)?/(?:[^\s/,;:'\"]+/)*([^\s/,;:'\"]+)", r"\1", text)

    return {"study": run.study, "data": run.data, "command": shlex.join(map(short, took["argv"])),
            "seconds": None if took["resumed"] else round(took["seconds"]), "processes": took["processes"],
            "memory_mb": round(took["memory_mb"]), **{k: result[k] for k in ("device", "versions", "git")},
            "headline": result["headline"], "not_run": list(map(short, result["not_run"]))}


def show(value, ci: Sequence[float] | None = None) -> str:
    """value (low to high), numbers with as many decimals as give the largest of them four digits."""
    numbers = [v for v in (value, *(ci or ())) if isinstance(v, float) and math.isfinite(v)]
    top = max(map(abs, numbers), default=0)
    decimals = 4 - math.ceil(math.log10(top)) if top else 0

    def text(v) -> str:
        if v is None or v != v:
            return "-"
        if v not in numbers or v == int(v) and not ci:
            return (f"{v:.0f}" if v in numbers else str(v)).replace("|", "\\|")
        return f"{v:.1e}" if decimals > 7 else f"{v:.{max(decimals, 0)}f}"
    return text(value) + (f" ({text(ci[0])} to {text(ci[1])})" if ci and ci[0] is not None else "")


def table(runs: Sequence[dict], shown: str) -> str:
    """Markdown: a row a headline number, the paper's value, a column a run; then commands, times, not run.

    Rows "name, A", "name, B" ... become one. A cell: value (95 % interval) unit, n."""
    rows: dict[str, dict[str, dict]] = {}
    for i, run in enumerate(runs):
        for h in run["headline"]:
            if re.fullmatch(shown, h["name"].strip()):
                name, _, source = re.fullmatch(r"(.*?)(, ([ABC]))?", h["name"].strip()).groups()
                cells, mark = rows.setdefault(name, {}), f"{source} " if source else ""
                ours = f"{mark}{show(h['ours'], h['ci'])} {h['unit'] or ''}".strip() + f", n {h['n']}"
                paper = cells.setdefault("paper", {})
                if h["paper"] is not None or mark not in paper:
                    said = h["paper"]
                    paper[mark] = mark + show(f"{said:g}" if isinstance(said, float) else said)
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
        took += f"{run['processes']} processes, " if run["processes"] > 1 else ""
        short = [textwrap.shorten(re.sub(r"https?://\S*/", "", part), 90, placeholder=" ...")
                 for part in run["not_run"]]
        parts = f"; not run: {'; '.join(short)}" if short else ""
        lines.append(f"* {run['data']}: `python {run['command']}` ({took}{run['memory_mb']:,} MB, "
                     f"{run['device']}){parts}")
    return "\n".join(lines)


def write_tables(results: Path, readme: Path) -> None:
    """The blocks of the README from docs/results/*.json, the demo first; InputError where one has no end."""
    text = readme.read_text(encoding="utf-8")
    for study in SCRIPTS:
        files = [results / f"{s}_{d}.json" for s, d, _ in DEMO_RUNS + DATA_RUNS if s == study]
        runs = [read_json(file) for file in files if file.exists()]
        block = re.compile(rf"(<!-- table: {study} -->\n)(?:(?!<!-- table:).)*?(<!-- end -->)", re.DOTALL)
        if not block.search(text):
            raise InputError(f"{readme}: no line <!-- table: {study} --> with an <!-- end --> after it; put "
                             "them where the table shall stand.")
        made = f"\n{table(runs, SHOWN[study])}\n\n" if runs else ""
        text = block.sub(lambda m: m[1] + made + m[2], text)
    with atomic_write(readme) as f:
        f.write(text)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    p.add_argument("--data", type=Path, help="folder with salicon/, coco/ ... (default: demo alone)")
    p.add_argument("--out", type=Path, help="default: runs/reproduce, with --short runs/reproduce_short")
    p.add_argument("--only", nargs="+", default=[], metavar="RUN",
                   help="studies (exp04) or runs (exp04_demo)")
    p.add_argument("--add", nargs=2, action="append", default=[], metavar=("RUN", "OPTIONS"),
                   help="more options for a study's runs on data or for one of them (a lone one: ' --x')")
    p.add_argument("--processes", type=at_least(1), default=1, help="of torchrun, such as GPUs (default: 1)")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="a few images each; the README stays")
    form.add_argument("--tables", action="store_true", help="rewrite the README's tables and run nothing")
    args = p.parse_args(argv)
    args.data = args.data and args.data.resolve()
    args.out = args.out or ROOT / "runs" / ("reproduce_short" if args.short else "reproduce")
    with_data = {*SCRIPTS, *(f"{study}_{d}" for study, d, _ in DATA_RUNS)} - {"train"}
    every = with_data | {"train", *(f"{study}_{d}" for study, d, _ in DEMO_RUNS)}
    if wrong := [n for n in args.only if n not in every] + [n for n, _ in args.add if n not in with_data]:
        raise InputError(f"{wrong[0]} is no study or run{' on data' * (wrong[0] in every)}; expected "
                         f"{', '.join(sorted(with_data if wrong[0] in every else every))}.")
    return args


def main(argv: list[str] | None = None) -> None:
    args, add = parse(argv), {}
    if args.tables:
        return write_tables(ROOT / "docs" / "results", ROOT / "README.md")
    if args.data and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder; expected one with {', '.join(FOLDERS)}.")
    for name, options in args.add:
        add[name] = f"{add.get(name, '')} {options}"
    wanted = set(args.only) or {*SCRIPTS}
    runs, absent = find_runs(args.data, args.out, add, args.short)
    runs, failed = [r for r in runs if {r.study, r.name} & wanted], []
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the running script ends too
    for run in runs:
        if is_done(run, args.out / run.name):
            print(f"{run.name}: done before")
        else:
            print(f"\n{run.name}: python {shlex.join([SCRIPTS[run.study], *run.argv])}", flush=True)
            if status := carry_out(run, args.out / run.name, args.processes):
                failed.append(f"{run.name} (status {status})")
    results = args.out / "results" if args.short else ROOT / "docs" / "results"
    for run in (r for r in runs if is_done(r, args.out / r.name)):
        kept = summary(run, args.out / run.name, args.data)
        write_json(kept, results / f"{run.name}.json")
        if args.short:
            print(f"\n{run.name}\n{table([kept], SHOWN[run.study])}")
    if not args.short:
        write_tables(results, ROOT / "README.md")
        for name, (source, share) in PICTURES.items():
            if source.split("/")[0] in {r.name for r in runs} and (args.out / source).exists():
                image = read_image(args.out / source)
                image = image.crop((0, 0, image.width, round(share * image.height)))
                size = PICTURE_WIDTH, round(PICTURE_WIDTH * image.height / image.width)
                with atomic_write(ROOT / "docs" / name, "wb") as f:
                    image.resize(size, Image.Resampling.LANCZOS).save(f, "PNG", optimize=True)
    for name in (a for a in absent if {a, a.split("_")[0]} & wanted):
        print(f"not run: {name}, no {args.data or 'DATA'}/{name.split('_')[1].split('-')[0]}")
    print(f"{len(runs) - len(failed)} of {len(runs)} runs done, their figures in {args.out}/")
    if failed or not runs:
        sys.exit(f"{', '.join(failed)} failed, see above; when mended, the same command goes on"
                 if failed else f"nothing to run: --only {' '.join(args.only)} needs data")


if __name__ == "__main__":
    cli(main)
