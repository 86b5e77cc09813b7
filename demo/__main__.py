"""python -m demo: writes the demo world, and with --show a picture of it (the card is in __init__.py)."""
import argparse
import csv
import json
from pathlib import Path

import av
import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from common import ROOT, InputError
from demo.world import FPS, FRAMES, PARTS, demo_world


def gaze_in(path: Path, key: str, value: str) -> np.ndarray:
    """(n, 2) x, y px of the rows of a CSV where the column `key` has that value and gaze is not missing."""
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row[key] == value and row["x_px"]]
    return np.array([(float(row["x_px"]), float(row["y_px"])) for row in rows])


def contact_sheet(root: Path, path: Path) -> Path:
    """Every kind of data in one figure, the simulated gaze on top; drawn from the files."""
    panels, nobody = [], np.zeros((0, 2))  # (picture, gaze (n, 2) x, y)
    for pattern in ("imagenet/val/n*", "objectnet/images/*"):
        for folder in sorted(root.glob(pattern)):
            panels.append((Image.open(sorted(folder.iterdir())[0]), nobody))
    salicon = json.loads((root / "salicon" / "fixations_val2014.json").read_text())
    for image in salicon["images"][:7]:
        gaze = [a["fixations"] for a in salicon["annotations"] if a["image_id"] == image["id"]]
        panels.append((Image.open(root / "salicon" / "images" / image["file_name"]),
                       np.concatenate(gaze)[:, ::-1]))
    for clip in sorted((root / "videos" / "clips").iterdir()):  # the middle frame
        with av.open(str(clip)) as file:
            frame = list(file.decode(video=0))[FRAMES // 2].to_image()
        gaze = root / "videos" / "gaze" / f"{clip.stem}.csv"
        panels.append((frame, gaze_in(gaze, "t_s", f"{FRAMES / FPS / 2:.4f}")))
    fixations = root / "objects" / "fixations.csv"
    for picture in sorted((root / "objects" / "images").iterdir())[6:13]:
        panels.append((Image.open(picture), gaze_in(fixations, "image", picture.name)))
    figure = Figure(figsize=(16, 12), layout="tight")
    for ax, (picture, gaze) in zip(figure.subplots(6, 8).flat, panels):
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
