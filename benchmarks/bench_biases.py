"""exp03's steps on one CPU thread: milliseconds an image, beside a plain loop over annotations and sources,
and what 5,000 images x 4 sources take on two cores. CPU time, which other work on the machine hardly changes.

    python benchmarks/bench_biases.py [--images 60] [--coco FOLDER]

Data: the demo world's validation images (480x640, 3-7 objects) and its models (96 wide, 12 blocks). The plain
loop is what one writes first: a canvas a region, PIL to shrink it, scipy's Gaussian, scipy's entropy.
--coco: masks of real annotations too, from FOLDER/annotations/instances_*.json.
"""
import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image

sys.path[:0] = [str(Path(__file__).resolve().parents[1])]
import demo  # noqa: E402
import exp03_biases as E  # noqa: E402
from gaze_tuning import load_gaze


def plain_scene(anns: list, coco, img_h: int, img_w: int) -> list:
    """The same regions: animate, inanimate, objects; a mask of 224x224 each, by PIL."""
    canvas = np.full((img_h, img_w), -1)
    for k in sorted(range(len(anns)), key=lambda k: -anns[k]["area"]):
        canvas[coco.annToMask(anns[k]) == 1] = k
    names = [coco.cats[a["category_id"]]["name"] for a in anns]
    groups = [[k for k, name in enumerate(names) if name in group] for group in (E.ANIMATE, E.INANIMATE)]
    groups += [[k] for k, a in enumerate(anns) if not a["iscrowd"]]
    masks = [np.isin(canvas, group).astype(np.uint8) for group in groups]
    return [np.asarray(Image.fromarray(m).resize((224, 224), Image.Resampling.NEAREST)) > 0 for m in masks]


def plain_measures(maps: list, masks: list) -> list:
    rows = []
    for m in maps:
        p = m / m.sum()
        rows.append([scipy.stats.entropy(p.ravel(), base=2)] +
                    [p[mask].sum() / mask.sum() * 10_000 for mask in masks if mask.any()])
    return rows


def plain_human(counts: np.ndarray) -> np.ndarray:
    m = scipy.ndimage.gaussian_filter(counts, 15, mode="constant")
    return (m - m.min()) / (m.max() - m.min())


def ms(function, items: list) -> float:
    """Milliseconds an item, after one item to warm up."""
    function(items[0])
    start = time.process_time()
    for item in items:
        function(item)
    return (time.process_time() - start) / len(items) * 1e3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60, help="timed (default 60, at most 120)")
    parser.add_argument("--coco", type=Path, help="COCO folder, for masks of real annotations")
    args = parser.parse_args()
    torch.set_num_threads(1)
    root = demo.demo_world(parts=("salicon",))
    images, _ = load_gaze(root / "salicon", "val", root / "coco", args.images)
    coco, ids, _ = E.load_coco(root / "coco", "val")
    models, pre, _ = E.load_models("demo_sl12", None, {"B": None, "C": None}, ["A"], True)
    data = E.BiasData(images, pre, coco, ids)
    batches = [E.collate([data[i] for i in part.tolist()]) for part in torch.arange(len(data)).split(30)]
    cpu = torch.device("cpu")
    maps = torch.cat([E.source_maps(b, models, True, [], cpu)["A"] for b in batches])
    counts = torch.cat([b[1] for b in batches])
    entries = [coco.imgs[ids[E.plain_name(image.name)]] for image in images]
    scenes = [data.scene(image.name) for image in images]
    plain = [plain_scene(coco.imgToAnns[e["id"]], coco, 480, 640) for e in entries]
    four, n = torch.stack([maps] * 4, 1), len(data)  # (n, 4, 224, 224)
    both = {
        "masks": (ms(lambda e: E.make_scene(coco.imgToAnns[e["id"]], coco, 480, 640), entries),
                  ms(lambda e: plain_scene(coco.imgToAnns[e["id"]], coco, 480, 640), entries)),
        "densities, entropy, 4 sources": (
            ms(lambda i: E.measures(four[i], scenes[i]), range(n)),
            ms(lambda i: plain_measures(four[i].double().numpy(), plain[i]), range(n))),
        "human map, batch of 30": (
            ms(lambda b: E.source_maps(b, {}, True, [], cpu), batches) * len(batches) / n,
            ms(lambda i: plain_human(counts[i].double().numpy()), range(n)))}
    one_model = ms(lambda b: E.source_maps(b, models, False, [], cpu), batches) * len(batches) / n
    alone = {"image and fixations": ms(lambda i: E.GazeData(images, pre)[i], range(n)),
             "rollout of one model, batch of 30": one_model}
    print(f"ms an image (one thread; {os.cpu_count()} cores)")
    print(f"{'ours':>8}  {'theirs':>8}  {'ratio':>5}  {'n':>4}  what")
    for name, (ours, theirs) in both.items():
        print(f"{ours:8.2f}  {theirs:8.2f}  {theirs / ours:5.1f}  {n:4d}  {name}")
    for name, ours in alone.items():
        print(f"{ours:8.2f}  {'-':>8}  {'-':>5}  {n:4d}  {name}")
    if args.coco:
        real, _, _ = E.load_coco(args.coco, "val")
        entries = [e for e in real.imgs.values() if real.imgToAnns[e["id"]]]
        ours, theirs = (ms(lambda e: f(real.imgToAnns[e["id"]], real, e["height"], e["width"]), entries)
                        for f in (E.make_scene, plain_scene))
        print(f"{ours:8.2f}  {theirs:8.2f}  {theirs / ours:5.1f}  {len(entries):4d}  masks of --coco, "
              f"{len(real.anns) / len(entries):.1f} annotations an image")
    total = sum(v[0] for v in both.values()) + alone["image and fixations"] + 3 * one_model
    print(f"5,000 images x human, A, B, C: {total * 5000 / 60e3:.1f} min on one core, "
          f"{total * 5000 / 120e3:.1f} min on two (demo models)")


if __name__ == "__main__":
    main()
