"""Every study, on the demo world and on the data that are present; the tables of README.md and docs/.

Commands
    laptop, demo world    python reproduce.py
    open data, online     python reproduce.py --download
    with data             python reproduce.py --data DATA
    eight GPUs            python reproduce.py --data DATA --processes 8
    some studies          python reproduce.py --data DATA --only exp04 exp06_osie
    short form            python reproduce.py --short
    tables alone          python reproduce.py --tables

--download gets OSIE, Imagenette and the weights (1.1 GB, asked for first) and runs what can be run on them.
DATA holds any of FOLDERS, laid out as docs/ says under its study; what is absent is named and left out. A run
is one command of one script, in runs/reproduce/<study>_<data>/ (or --out); the same command after an
interruption goes on. The numbers of finished runs go to docs/results/, from there between the lines
<!-- table: study --> and <!-- end --> of README.md and docs/<study>.md, and pictures to docs/. --short: few
images, and no file of the project changes. Time, one core: the demo 27 minutes.
"""
from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds

import download
from common import ROOT, InputError
from data import read_image
from results import atomic_write, cli, read_json, show, write_json
from weights import WEIGHTS, locate_weights

SCRIPTS = {"exp01": "exp01_finetune_vit.py", "exp02": "exp02_resnet.py", "exp03": "exp03_biases.py",
           "exp04": "exp04_saccades.py", "exp05": "exp05_gaze_video.py", "train": "exp05_train_vits.py",
           "exp06": "exp06_gaze_objects.py"}
# {name of a run, study_data: options}. {folder}: of DATA, or of another run; an option without its folder is
# left out.
RUNS = {
    "exp01_demo": [], "exp02_demo": [], "exp03_demo": [], "exp04_demo": [],
    "exp04_demo-sweep": ["--sweep --saliency --limit 60 --fovea 3"], "exp05_demo": [],
    "train_demo": ["--eval"], "exp06_demo": [], "exp06_demo-blur": ["--blur attention"],
    "exp01_salicon": ["--salicon {salicon}", "--coco {coco}", "--imagenet {imagenet}",
                      "--objectnet {objectnet}"],
    "exp02_salicon": ["--salicon {salicon}", "--coco {coco}", "--imagenet {imagenet}"],
    "exp03_salicon": ["--salicon {salicon}", "--coco {coco}", "--model-b {exp01_salicon}/tuned_B.pth",
                      "--model-c {exp01_salicon}/tuned_C.pth"],
    "exp01_osie": ["--salicon {osie} --model dinov2_vits14 --lr 1e-4 --epochs 2 --eval-every 14"],
    "exp02_osie": ["--salicon {osie}"],
    "exp04_imagenette": ["--data {imagenette}"], "exp04_imagenet": ["--data {imagenet}"],
    "exp04_imagenet-sweep": ["--data {imagenet} --sweep --saliency"],
    "exp04_animals": ["--data {animals} --train-head"],
    "exp04_superclasses": ["--data {superclasses} --train-head"],
    "exp05_n2010": ["--data {n2010}"], "exp05_cw2019": ["--data {cw2019}", "--compare {exp05_n2010}"],
    "exp06_objects": ["--data {objects}"], "exp06_osie": ["--data {osie}"],
    "exp06_osie-blur": ["--data {osie} --blur attention"]}
FOLDERS = ("salicon", "coco", "imagenet", "imagenette", "animals", "superclasses", "objectnet", "osie",
           "n2010", "cw2019", "objects")
SHORT = {"exp01": "--limit 16 --epochs 1 --eval-every 1", "exp02": "--limit 16 --epochs 1 --eval-every 1",
         "exp03": "--limit 24", "exp04": "--limit 12", "exp05": "--limit 8", "train": "--limit 60",
         "exp06": "--limit 3"}
PICTURES = {  # of docs/: made from, upper part that is shown
    "saccades.png": ("exp04_demo/fig08_examples.png", .492), "gaze.png": ("exp05_demo/fig_gaze.png", 1),
    "attention.png": ("train_demo/eval/fig_attention.png", 1)}
PICTURE_WIDTH = 1000  # px
SHORTLIST = {  # the README's runs and headline rows (regular expressions); all rows are on the studies' pages
    "exp01": (("osie", "demo"),
              r"CC, .|images with a gain in CC|r\(gain.*|(ImageNet|ImageNet-C|ObjectNet), B - A"),
    "exp02": (("osie", "demo"), r"CC, .|images with a gain in CC|ImageNet top-1, ."),
    "exp03": (("salicon", "demo"), r"(animacy|size), (human|B): d|sparsity, (human|B): entropy"),
    "exp04": (("superclasses", "demo"),
              r"accuracy, full image|fovea 3: (attention - random, (saccade [15]|mean of all)|visible.*)"
              r"|fovea 5 - 3: acc.*"),
    "exp05": (("n2010", "demo"), r"(dino12|sl12), 5 best heads|(adult|G1): looks at face|G1: share.*"),
    "exp06": (("osie", "demo"), r"best sigma, best head, KL|(best|worst) head, KL|lift of the best head")}


def study_of(name: str) -> str:
    return name.split("_")[0]


def find_runs(data: Path | None, out: Path, short: bool) -> tuple[dict[str, list[str]], dict[str, str]]:
    """{name: arguments} of the runs whose data are there; {name: missing folder} of the others."""
    places = {folder: data / folder for folder in FOLDERS if data and (data / folder).is_dir()}
    runs, absent = {}, {}
    for name, options in RUNS.items():
        folder = name.split("_")[1].split("-")[0]
        if folder not in ("demo", *places):
            absent[name] = folder
            continue
        here = [option for option in options if set(re.findall(r"{(\w+)}", option)) <= set(places)]
        if short:
            here = [*here, SHORT[study_of(name)]]
        runs[name] = shlex.split(" ".join(here).format(**places))
        places[name] = out / name
    return runs, absent


def carry_out(command: list[str], folder: Path, processes: int) -> int:
    """Start or go on with a command in its folder; its exit status. reproduce.json there keeps the command,
    its status, seconds and memory."""
    began, resume = time.time(), any(folder.rglob("args.json"))
    note = {"argv": command, "status": "interrupted", "resumed": resume, "processes": processes}
    write_json(note, folder / "reproduce.json")
    parallel = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    child = subprocess.Popen([sys.executable, *(parallel if processes > 1 else []), str(ROOT / command[0]),
                              *command[1:], "--out", str(folder), *(["--resume"] if resume else [])])
    try:
        _, status, usage = os.wait4(child.pid, 0)
    except KeyboardInterrupt:  # Ctrl-C or SIGTERM: no run goes on alone
        child.terminate()
        child.wait()
        raise
    child.returncode = os.waitstatus_to_exitcode(status)
    memory = usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)  # of the largest process
    took = {"status": child.returncode, "seconds": time.time() - began, "memory_mb": memory}
    write_json(note | took, folder / "reproduce.json")
    return child.returncode


def is_done(command: list[str], folder: Path) -> bool:
    """Finished by this command."""
    file = folder / "reproduce.json"
    note = read_json(file) if file.exists() else {}
    return note.get("status") == 0 and note["argv"] == command and any(folder.rglob("results.json"))


def summary(name: str, folder: Path, data: Path | None) -> dict:
    """What docs/results/ keeps of a finished run: its parts' headline rows together. Paths become DATA/... or
    their last name."""
    def short(text: str) -> str:
        text = text.replace(f"{data}/", "DATA/") if data else text
        return re.sub(r"(?<![\w.:/])(?:~|\.\.?)?/(?:[^\s/,;:'\"]+/)*([^\s/,;:'\"]+)", r"\1", text)

    parts = [read_json(file) for file in sorted(folder.rglob("results.json"), key=lambda f: len(f.parts))]
    took = read_json(folder / "reproduce.json")
    return {"study": study_of(name), "data": name.split("_")[1],
            "command": shlex.join(map(short, took["argv"])),
            "seconds": None if took["resumed"] else round(took["seconds"]), "processes": took["processes"],
            "memory_mb": round(took["memory_mb"]), **{k: parts[0][k] for k in ("device", "versions", "git")},
            "headline": [row for part in parts for row in part["headline"]],
            "not_run": [short(text) for part in parts for text in part["not_run"]]}


def cell(row: dict) -> str:
    """value (low to high) unit, n, verdict."""
    interval = f" ({show(row['ci'])})" if row["ci"] and row["ci"][0] is not None else ""
    text = f"{show(row['ours'])}{interval} {row['unit'] or ''}".strip() + f", n {row['n']}"
    return (text + (f", {row['verdict']}" if row.get("verdict") else "")).replace("|", "\\|")


def table(runs: Sequence[dict], shown: str = ".*") -> str:
    """Markdown: a row a headline number, the paper's value, a column a run. Rows "name, A", "name, B" ...
    become one. shown: a regular expression of names."""
    rows: dict[str, list[dict[str, str]]] = {}  # name: [paper's cells, cells of run 0, of run 1 ...]
    for i, run in enumerate(runs, 1):
        for row in run["headline"]:
            if re.fullmatch(shown, row["name"].strip()):
                name, _, source = re.fullmatch(r"(.*?)(, ([ABC]))?", row["name"].strip()).groups()
                cells = rows.setdefault(name, [{} for _ in range(len(runs) + 1)])
                mark = f"{source} " if source else ""
                cells[i][mark] = mark + cell(row)
                if row["paper"] is not None:
                    cells[0][mark] = mark + show(row["paper"]).replace("|", "\\|")
    lines = ["| | paper | " + " | ".join(run["data"] for run in runs) + " |", "|---" * (len(runs) + 2) + "|"]
    for name, cells in rows.items():
        lines.append(f"| {name} | " + " | ".join("<br>".join(c.values()) or "-" for c in cells) + " |")
    return "\n".join(lines)


def costs(runs: Sequence[dict]) -> str:
    """Markdown: the command of each run, what it took, and what of it was not run."""
    lines = []
    for run in runs:
        took = f"{run['seconds']} s, " if run["seconds"] else ""
        took += f"{run['processes']} processes, " if run["processes"] > 1 else ""
        missing = f"; not run: {'; '.join(run['not_run'])}" if run["not_run"] else ""
        took += f"{run['memory_mb']:,} MB, " if run["memory_mb"] else ""
        lines.append(f"* {run['data']}: `python {run['command']}` ({took}{run['device']}){missing}")
    return "\n".join(lines)


def fill(page: Path, mark: str, made: str) -> None:
    """Write what stands between <!-- table: mark --> and <!-- end --> of a page. InputError: no such lines"""
    text = page.read_text(encoding="utf-8")
    block = re.compile(rf"(<!-- table: {mark} -->\n)(?:(?!<!-- table:).)*?(<!-- end -->)", re.DOTALL)
    if not block.search(text):
        raise InputError(f"{page}: no line <!-- table: {mark} --> with an <!-- end --> after it; put them "
                         "where the table should stand.")
    with atomic_write(page) as f:
        f.write(block.sub(lambda m: m[1] + made + m[2], text))


def write_tables(results: Path, root: Path) -> None:
    """The tables of README.md and of docs/<study>.md, from docs/results/*.json."""
    for study in SCRIPTS:
        files = [results / f"{name}.json" for name in RUNS if study_of(name) == study]
        runs = [read_json(file) for file in files if file.exists()]
        if not runs:
            continue
        fill(root / "docs" / f"{study}.md", study, f"{table(runs)}\n\n{costs(runs)}\n")
        if study in SHORTLIST:
            names, shown = SHORTLIST[study]
            few = [run for name in names for run in runs if run["data"] == name]
            fill(root / "README.md", study, f"{table(few, shown)}\n")


def copy_pictures(out: Path) -> None:
    """The README's pictures from the figures of the runs."""
    for name, (source, share) in PICTURES.items():
        if (out / source).exists():
            image = read_image(out / source)
            image = image.crop((0, 0, image.width, round(share * image.height)))
            image = image.resize((PICTURE_WIDTH, round(PICTURE_WIDTH * image.height / image.width)))
            with atomic_write(ROOT / "docs" / name, "wb") as f:
                image.save(f, "PNG", optimize=True)


def keep(commands: dict[str, list[str]], args: argparse.Namespace) -> None:
    """The numbers of the finished runs, in docs/results/, the README and docs/; --short: printed."""
    results = args.out / "results" if args.short else ROOT / "docs" / "results"
    for name, command in commands.items():
        if is_done(command, args.out / name):
            kept = summary(name, args.out / name, args.data)
            write_json(kept, results / f"{name}.json")
            if args.short:
                print(f"\n{name}\n{table([kept])}")
    if not args.short:
        write_tables(results, ROOT)
        copy_pictures(args.out)


def get_open_data() -> Path:
    """Folder of the data sets that anyone may download; they and the weights are there when it returns."""
    sizes = {name: archive.megabytes for name, archive in download.ARCHIVES.items()} | download.WEIGHT_SIZES
    print("\n".join(f"{name:24}{size:6} MB" for name, size in sizes.items()))
    if input(f"Download what is not there yet of these {sum(sizes.values())} MB? [y/N] ").lower() != "y":
        raise InputError("nothing was downloaded; give folders that are there with --data.")
    for name in download.ARCHIVES:
        folder = download.data_folder(name)
    for name in download.WEIGHT_SIZES:
        locate_weights(WEIGHTS[name])
    return folder.parent


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(usage="python %(prog)s [options]", description=__doc__,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    data = p.add_mutually_exclusive_group()
    data.add_argument("--data", type=Path, help="folder with salicon/, coco/ ... (default: demo alone)")
    data.add_argument("--download", action="store_true", help="get the open data and weights and run on them")
    p.add_argument("--out", type=Path, help="default: runs/reproduce, with --short runs/reproduce_short")
    p.add_argument("--only", nargs="+", default=[*SCRIPTS], metavar="RUN", choices=[*SCRIPTS, *RUNS],
                   help="exp04, or one of its runs: exp04_demo")
    p.add_argument("--processes", type=int, default=1, help="of torchrun, such as GPUs (default: 1)")
    form = p.add_mutually_exclusive_group()
    form.add_argument("--short", action="store_true", help="a few images each; the README stays")
    form.add_argument("--tables", action="store_true", help="rewrite the README's tables and run nothing")
    args = p.parse_args(argv)
    args.data = args.data and args.data.resolve()
    args.out = args.out or ROOT / "runs" / ("reproduce_short" if args.short else "reproduce")
    return args


def main(argv: list[str] | None = None) -> None:
    args = parse(argv)
    if args.tables:
        return write_tables(ROOT / "docs" / "results", ROOT)
    if args.download:
        args.data = get_open_data()
    if args.data and not args.data.is_dir():
        raise InputError(f"--data {args.data}: no such folder; expected one with {', '.join(FOLDERS)}.")
    runs, absent = find_runs(args.data, args.out, args.short)
    wanted = [name for name in RUNS if {name, study_of(name)} & set(args.only)]
    commands = {name: [SCRIPTS[study_of(name)], *runs[name]] for name in wanted if name in runs}
    failed = []
    for name, command in commands.items():
        if is_done(command, args.out / name):
            print(f"{name}: done before")
            continue
        print(f"\n{name}: python {shlex.join(command)}", flush=True)
        status = carry_out(command, args.out / name, args.processes)
        if status:
            failed.append(f"{name} (status {status})")
    keep(commands, args)
    for name in [name for name in wanted if name in absent]:
        print(f"not run: {name}, no {args.data or 'DATA'}/{absent[name]}")
    print(f"{len(commands) - len(failed)} of {len(commands)} runs done, their figures in {args.out}/")
    if failed:
        sys.exit(f"{', '.join(failed)} failed, see above; the same command goes on once the cause is gone")
    if not commands:
        sys.exit(f"nothing to run: --only {' '.join(args.only)} needs data")


if __name__ == "__main__":
    cli(main, "the same command")
