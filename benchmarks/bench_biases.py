"""exp03's steps for an image, beside a plain loop over annotations and sources.

    python benchmarks/bench_biases.py [--quick]

Data: the demo world's validation images (480x640, 3-7 objects) and its models (96 wide, 12 blocks). The plain
loop is what one writes first: a canvas a region, PIL to shrink it, scipy's Gaussian, scipy's entropy.
"""
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import scipy.ndimage
import scipy.stats
import torch
from bench import Row, main, take_turns
from PIL import Image
from torch.utils.data import DataLoader

import demo
import exp03_biases as E
from data import Images


def plain_scene(anns: list, coco, img_h: int, img_w: int) -> list:
    """The same regions: animate, inanimate, objects; a mask of 224x224 each, by PIL."""
    canvas = np.full((img_h, img_w), -1)
    for k in sorted(range(len(anns)), key=lambda k: -anns[k]["area"]):
        canvas[coco.annToMask(anns[k]) == 1] = k
    names = [coco.cats[a["category_id"]]["name"] for a in anns]
    animate = [name in E.ANIMATE for name in names]
    groups = [[k for k, yes in enumerate(animate) if yes == wanted] for wanted in (True, False)]
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


def steps(root: Path, n_images: int) -> Iterator[tuple[str, Callable, Callable | None]]:
    """(step, ours over all images, plain loop over all images) of the demo world in root."""
    images, _, coco, scenes, maps = E.load_data(root / "salicon", root / "coco", n_images, [])
    models, preprocess = E.load_models("demo_sl12", None, {})
    data = Images([image.path for image in images], preprocess,
                  partial(E.looked_at, images=images, coco=coco, scenes=scenes, maps=maps))
    batches = list(DataLoader(data, 30))
    x, counts, canvas = (torch.cat([b[k] for b in batches]) for k in ("image", "counts", "canvas"))
    with torch.no_grad():
        four = torch.stack([models["A"](x)[1]] * 4, 1)  # (n, 4, 224, 224)
    plain = [plain_scene(scene["anns"], coco, 480, 640) for scene in scenes]

    def measures() -> list:
        return [[E.entropy(m), E.density(m, torch.cat([*E.regions_of(c, scene["anns"]).values()]))]
                for m, c, scene in zip(four, canvas, scenes)]
    yield ("masks", lambda: [E.paint_masks(scene["anns"], coco, 480, 640) for scene in scenes],
           lambda: [plain_scene(scene["anns"], coco, 480, 640) for scene in scenes])
    yield ("densities and entropy, four sources", measures,
           lambda: [plain_measures(m.double().numpy(), masks) for m, masks in zip(four, plain)])
    yield ("human map", lambda: E.human_maps(counts),
           lambda: [plain_human(c.double().numpy()) for c in counts])
    yield "rollout of a demo model, batch of 30", lambda: [rollout(models["A"], b) for b in batches], None


@torch.no_grad()
def rollout(model: torch.nn.Module, batch: dict) -> torch.Tensor:
    return model(batch["image"])[1]


def rows(quick: bool) -> Iterator[Row]:
    rounds, n = (1, 2) if quick else (3, 60)
    with tempfile.TemporaryDirectory() as folder:
        root = (demo.demo_world(Path(folder), parts=("salicon",), n_salicon=(1, n)) if quick else
                demo.demo_world(parts=("salicon",)))
        for step, ours, plain in steps(root, n):
            t = take_turns({"ours": ours} | ({"plain": plain} if plain else {}), rounds)
            yield Row(f"exp03, {step}", "plain loop" if plain else "", "ms/image", t["ours"] * 1e3 / n,
                      t["plain"] * 1e3 / n if plain else None, f"{rounds} x {n}")


if __name__ == "__main__":
    main(rows, __doc__)
