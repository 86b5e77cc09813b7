"""python -m demo: writes the demo world, and with --show a picture of it (the card is in __init__.py)."""
import argparse
import csv
import json
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from common import ROOT, InputError
from demo.world import PARTS, demo_world


def contact_sheet(root: Path, path: Path) -> Path:
    """The 12 classes, six scenes and six still objects, the simulated gaze on top; drawn from the files."""
    panels = []  # (picture, gaze (n, 2) x, y)
    for folder in sorted(root.glob("imagenet/val/n*")):
        panels.append((Image.open(sorted(folder.iterdir())[0]), np.zeros((0, 2))))
    salicon = json.loads((root / "salicon" / "fixations_val2014.json").read_text())
    for image in salicon["images"][:6]:
        gaze = [a["fixations"] for a in salicon["annotations"] if a["image_id"] == image["id"]]
        picture = Image.open(root / "salicon" / "images" / image["file_name"])
        panels.append((picture, np.concatenate(gaze)[:, ::-1]))
    with open(root / "objects" / "fixations.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    for file in sorted((root / "objects" / "images").iterdir())[7:13]:
        gaze = [(float(row["x_px"]), float(row["y_px"])) for row in rows if row["image"] == file.name]
        panels.append((Image.open(file), np.array(gaze)))
    figure = Figure(figsize=(16, 6), layout="tight")
    for ax, (picture, gaze) in zip(figure.subplots(3, 8).flat, panels):
        ax.imshow(picture)
        ax.scatter(*gaze.T, s=4, c="yellow", edgecolors="black", linewidths=.2)
        ax.axis("off")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    return path


def main(argv: list | None = None):
    parser = argparse.ArgumentParser(prog="python -m demo", description="Writes the demo world.")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "demo_world", help="default: %(default)s")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--no-planted", action="store_true", help="observers without preferences")
    parser.add_argument("--show", action="store_true", help="all parts, and a picture of them in --out")
    args = parser.parse_args(argv)
    try:
        root = demo_world(args.out, planted=not args.no_planted, parts=PARTS if args.show else args.parts)
        print(contact_sheet(root, args.out / "contact_sheet.png") if args.show else root)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
