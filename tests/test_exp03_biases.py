"""exp03_biases: masks are COCO's, densities and entropies what they say, planted preferences are found."""
import csv
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import demo
import exp03_biases as E
from common import InputError, density_map, gaussian_blur, generator, load_vit
from gaze_tuning import attention_state, gaze_files
from legacy import cli, fingerprint, read_csv, save_checkpoint

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("GAZE_SHARED", ROOT.parent / "shared"))
N = 24  # images of the worlds below
HUMANS = "--sources human --workers 0 --device cpu".split()
UNIFORM = 10_000 / 50_176


@pytest.fixture(scope="session")
def worlds(tmp_path_factory) -> dict[bool, Path]:
    """{planted: a demo world with N validation images}."""
    cache = tmp_path_factory.mktemp("worlds")
    return {planted: demo.demo_world(cache, planted=planted, parts=("salicon",), n_salicon=(1, N))
            for planted in (True, False)}


@pytest.fixture(scope="session")
def tuned(tmp_path_factory) -> dict[str, Path]:
    """Stand-ins of exp01's B and C in its format: model A's attention weights, disturbed."""
    vit, _ = load_vit("demo_sl12")
    paths = {}
    for k, seed in (("B", 1), ("C", 2)):
        state = {n: (p + .3 * p.std() * torch.randn(p.shape, generator=generator(seed, i, 1))).half()
                 for i, (n, p) in enumerate(attention_state(vit).items())}
        paths[k] = tmp_path_factory.mktemp("tuned") / f"tuned_{k}.pth"
        save_checkpoint(state, paths[k])
    return paths


def run(*argv) -> dict:
    """Results of a run in this process; the last argument pair must be --out FOLDER."""
    E.main([*map(str, argv)])
    return json.loads((Path(argv[-1]) / "results.json").read_text())


def command(*argv, cwd, code: int = 0) -> str:
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    p = subprocess.run([sys.executable, *map(str, argv)], cwd=cwd, env=env, capture_output=True, text=True,
                       timeout=240)
    assert p.returncode == code, p.stderr
    return p.stdout + p.stderr


def coco_of(*anns: dict, img_h: int = 40, img_w: int = 60) -> COCO:
    """One image, id 1, with these annotations: name (of the category), segmentation, and other fields."""
    names = E.ANIMATE + E.EXCLUDED + E.INANIMATE + ["unicorn"]
    coco = COCO()
    coco.dataset = dict(
        images=[dict(id=1, file_name="COCO_val2014_000000000001.jpg", height=img_h, width=img_w)],
        categories=[dict(id=k, name=name) for k, name in enumerate(names)],
        annotations=[dict(id=k, image_id=1, category_id=names.index(a.get("name", "car")), iscrowd=0) |
                     {key: v for key, v in a.items() if key != "name"} for k, a in enumerate(anns, 1)])
    coco.createIndex()
    return coco


def box(top: int, left: int, bottom: int, right: int, **more) -> dict:
    """An annotation whose polygon is exactly the pixels [top, bottom) x [left, right)."""
    polygon = [left, top, right, top, right, bottom, left, bottom]
    return {"segmentation": [polygon], "area": float((bottom - top) * (right - left))} | more


def scene_of(*anns: dict, whole: bool = False, **size) -> E.Scene:
    coco = coco_of(*anns, **size)
    image = coco.imgs[1]
    return E.make_scene(coco.imgToAnns[1], coco, image["height"], image["width"], whole)


def half_bright() -> torch.Tensor:
    """A map of 3 on the left half, 1 on the right: densities 1.5 and .5 times the uniform one."""
    return torch.cat([torch.full((224, 112), 3.), torch.ones(224, 112)], 1)


# ------------------------------------------------------------------------------------------------ masks

def test_categories_are_coco_s_80():
    listed = E.ANIMATE + E.EXCLUDED + E.INANIMATE
    coco = {category["name"] for category in demo.COCO_CATEGORIES}
    assert (len(E.ANIMATE), len(E.EXCLUDED), len(E.INANIMATE)) == (11, 5, 64)
    assert len(listed) == 80 and set(listed) == coco


def test_small_objects_are_painted_over_large_ones_whatever_their_order():
    small, large = box(10, 10, 20, 20), box(0, 0, 40, 40)
    for anns in ((small, large), (large, small)):
        coco = coco_of(*anns)
        canvas = E.paint_masks(coco.imgToAnns[1], coco, 40, 60)
        expected = torch.full((40, 60), -1)
        expected[:, :40] = anns.index(large)
        expected[10:20, 10:20] = anns.index(small)
        assert torch.equal(canvas.long(), expected)


def test_of_equal_areas_the_later_annotation_is_on_top():
    coco = coco_of(box(0, 0, 10, 10), box(0, 5, 10, 15))
    assert E.paint_masks(coco.imgToAnns[1], coco, 40, 60)[0, :15].tolist() == 5 * [0] + 10 * [1]


def test_polygons_rle_and_crowds_give_the_same_mask():
    pixels = np.zeros((40, 60), dtype=np.uint8)
    pixels[5:25, 7:30] = 1
    code = coco_mask.encode(np.asfortranarray(pixels))
    runs = np.diff(np.flatnonzero(np.diff(np.r_[0, pixels.ravel(order="F"), 0])), prepend=0)
    runs = [*runs.tolist(), 40 * 60 - int(runs.sum())]
    forms = (box(5, 7, 25, 30)["segmentation"], {"size": [40, 60], "counts": code["counts"].decode()},
             {"size": [40, 60], "counts": runs})
    for form in forms:
        mask = E.decode_mask({"id": 1, "image_id": 1, "segmentation": form}, coco_of(), 40, 60)
        assert np.array_equal(mask, pixels)


def test_masks_shrink_by_the_nearest_pixel_centre_as_pil_does():
    pixels = np.random.default_rng(0).integers(0, 99, (427, 500)).astype(np.uint8)  # no centre on an edge
    pil = np.asarray(Image.fromarray(pixels).resize((224, 224), Image.Resampling.NEAREST))
    assert np.array_equal(E.shrink(pixels), pil) and np.array_equal(E.shrink(torch.tensor(pixels)), pil)


def even_odd(polygon: np.ndarray, img_h: int, img_w: int) -> np.ndarray:
    """Pixels whose centre lies inside a polygon (k, 2) xy, by crossings of its edges below the centre."""
    rows, cols = np.mgrid[:img_h, :img_w] + .5
    inside = np.zeros((img_h, img_w), dtype=bool)
    for (x0, y0), (x1, y1) in zip(polygon, np.roll(polygon, -1, 0)):
        if x0 != x1:
            across = (x0 <= cols) != (x1 <= cols)
            inside ^= across & (y0 + (cols - x0) / (x1 - x0) * (y1 - y0) < rows)
    return inside


def distance_to_outline(rows: np.ndarray, cols: np.ndarray, polygon: np.ndarray) -> np.ndarray:
    """px from points (n,) to the nearest edge of a polygon (k, 2) xy."""
    start, edge = polygon, np.roll(polygon, -1, 0) - polygon
    offset = np.stack([cols, rows], 1)[:, None] - start  # (n, k, 2)
    t = ((offset * edge).sum(2) / np.maximum((edge**2).sum(1), 1e-12)).clip(0, 1)
    return np.linalg.norm(offset - t[..., None] * edge, axis=2).min(1)


@pytest.mark.real
def test_every_mask_of_real_coco_images_equals_an_independent_rasterisation():
    """RLE: bit for bit. Polygons: pycocotools rounds corners to .2 px, so a pixel may differ only where its
    centre lies within .2 px of the outline. Painting: small over large on every pixel of every image."""
    if not (SHARED / "real" / "coco_tiny").is_dir():
        pytest.skip(f"no {SHARED}/real/coco_tiny; set GAZE_SHARED")
    coco, ids, _ = E.load_coco(SHARED / "real" / "coco_tiny", "val")
    checked = differing = pixels = 0
    for image in coco.imgs.values():
        anns, size = coco.imgToAnns[image["id"]], (image["height"], image["width"])
        for ann in anns:
            ours, form, checked = E.decode_mask(ann, coco, *size), ann["segmentation"], checked + 1
            if isinstance(form, dict):
                values = np.arange(len(form["counts"])) % 2
                assert np.array_equal(ours, np.repeat(values, form["counts"]).reshape(size, order="F"))
                continue
            polygons = [np.array(p).reshape(-1, 2) for p in form]
            theirs = np.any([even_odd(p, *size) for p in polygons], 0)
            rows, cols = np.nonzero(ours != theirs)
            differing, pixels = differing + len(rows), pixels + ours.sum()
            if len(rows):
                near = np.min([distance_to_outline(rows + .5, cols + .5, p) for p in polygons], 0)
                assert near.max() < .2
        top, above = np.full(size, -1), np.full(size, np.inf)
        for i, ann in enumerate(anns):  # the smallest annotation that covers a pixel
            wins = E.decode_mask(ann, coco, *size) & (ann["area"] <= above)
            top[wins], above[wins] = i, ann["area"]
        assert np.array_equal(E.paint_masks(anns, coco, *size), top)
    assert checked == 815 and differing < .002 * pixels  # 80 images, 11 of the annotations are crowds
    print(f"{checked} annotations, {differing} of {pixels} pixels differ, all within .2 px of an outline")


@pytest.mark.real
def test_uniform_attention_has_the_uniform_density_in_every_region_of_real_images():
    if not (SHARED / "real" / "coco_tiny").is_dir():
        pytest.skip(f"no {SHARED}/real/coco_tiny; set GAZE_SHARED")
    coco, _, _ = E.load_coco(SHARED / "real" / "coco_tiny", "val")
    for image in coco.imgs.values():
        scene = E.make_scene(coco.imgToAnns[image["id"]], coco, image["height"], image["width"])
        d = E.density(torch.full((1, 224, 224), .37), scene.regions)
        seen = scene.regions.flatten(1).any(1)
        assert (d[0, seen] - UNIFORM).abs().max() < 1e-15 and d[0, ~seen].isnan().all()


# ------------------------------------------------------------------------------------------------ measures

def test_density_of_uniform_attention_is_exactly_10000_over_50176_in_every_region():
    regions = torch.rand(50, 224, 224, generator=generator(1)) < torch.rand(50, 1, 1, generator=generator(2))
    assert (E.density(torch.ones(2, 224, 224), regions) == UNIFORM).all()
    assert (E.density(torch.zeros(1, 224, 224), regions) == UNIFORM).all()  # a constant map, after min-max


def test_density_is_the_mean_share_of_a_pixel_times_10000():
    left = torch.zeros(3, 224, 224, dtype=torch.bool)
    left[0, :, :112] = left[1, 7, 112:] = True  # the third region has no pixel
    d = E.density(half_bright()[None], left)[0]
    assert d[:2].tolist() == pytest.approx([1.5 * UNIFORM, .5 * UNIFORM], rel=1e-12) and d[2].isnan()
    assert E.density(torch.full((1, 224, 224), math.nan), left).isnan().all()


def test_entropy_has_its_closed_forms():
    point = torch.zeros(224, 224)
    point[3, 4] = 5
    four = torch.zeros(224, 224)
    four[0, :4] = 1
    noise = torch.randn(224, 224, generator=generator(3, 1))
    h = E.entropy(torch.stack([torch.ones(224, 224), torch.zeros(224, 224), point, four, noise])).tolist()
    assert h[:4] == pytest.approx([math.log2(50_176), math.log2(50_176), 0, 2], abs=1e-12)
    reference = scipy.stats.entropy(noise.clamp(min=0).double().flatten(), base=2)
    assert h[4] == pytest.approx(reference, rel=1e-12)
    assert E.entropy(torch.full((1, 224, 224), math.nan)).isnan().all()


def test_size_bins_are_those_of_the_original_image_and_objects_are_averaged():
    anns = [box(0, 0, 31, 32), box(0, 60, 32, 92),       # 992 px^2: small; 1,024 px^2: medium
            box(100, 200, 196, 296), box(100, 0, 195, 95),  # 9,216: large; 9,025: medium
            box(40, 260, 50, 270)]                          # 100: small, right half
    row = E.measures(half_bright()[None], scene_of(*anns, img_h=200, img_w=400))[0]
    assert [row[k] for k in ("n_small", "n_medium", "n_large", "objects")] == [2, 2, 1, 5]
    assert row["small"] == pytest.approx(UNIFORM * (1.5 + .5) / 2)  # one object in each half
    assert row["medium"] == pytest.approx(UNIFORM * 1.5)
    assert row["large"] == pytest.approx(UNIFORM * .5, rel=.02)     # one column straddles the middle


def test_measures_equal_a_plain_loop_over_pixels(worlds):
    root = worlds[True]
    coco, ids, _ = E.load_coco(root / "coco", "val")
    image = next(im for im in coco.imgs.values() if len(coco.imgToAnns[im["id"]]) > 4)
    anns, m = coco.imgToAnns[image["id"]], torch.rand(224, 224, generator=generator(4)).numpy().astype(float)
    row = E.measures(torch.tensor(m)[None], E.make_scene(anns, coco, 480, 640))[0]
    canvas = np.zeros((480, 640), np.uint8)
    for k in np.argsort([-a["area"] for a in anns], kind="stable"):
        canvas[coco.annToMask(anns[k]) == 1] = k + 1
    canvas = np.array([[canvas[int((r + .5) * 480 / 224), int((c + .5) * 640 / 224)] for c in range(224)]
                       for r in range(224)])
    p = m / m.sum() * 10_000
    groups: dict[str, list] = {}
    for k, ann in enumerate(anns, 1):
        name = coco.cats[ann["category_id"]]["name"]
        groups.setdefault("animate" if name in E.ANIMATE else "inanimate", []).extend(p[canvas == k])
        size = "small" if ann["area"] < 1024 else "medium" if ann["area"] < 9216 else "large"
        if not ann["iscrowd"]:
            groups.setdefault(size, []).append(p[canvas == k].mean())
    for field, values in groups.items():
        assert row[field] == pytest.approx(np.mean(values), rel=1e-9), field


# ------------------------------------------------------------------------------------------------ odd images

def test_an_image_without_annotations_has_an_entropy_only():
    row = E.measures(half_bright()[None], scene_of())[0]
    assert row["objects"] == 0 and row["entropy"] > 15
    assert all(math.isnan(row[k]) for k in ("animate", "inanimate", "small", "medium", "large"))
    row = E.measures(half_bright()[None], None)[0]  # an image that the annotation file lacks
    assert math.isnan(row["objects"]) and math.isnan(row["animate"]) and row["entropy"] > 15


def test_crowds_are_painted_but_are_no_objects():
    left_half = {"size": [40, 60], "counts": [0, 1200, 1200]}
    crowd = dict(name="person", iscrowd=1, area=1200., segmentation=left_half)
    row = E.measures(half_bright()[None], scene_of(crowd))[0]  # all-crowd image: left half animate
    assert row["animate"] == pytest.approx(1.5 * UNIFORM) and math.isnan(row["inanimate"])
    assert row["objects"] == 0 and row["crowds"] == 1 and all(math.isnan(row[k]) for k in ("small", "large"))
    row = E.measures(half_bright()[None], scene_of(crowd, box(0, 30, 40, 60, name="car")))[0]
    assert row["inanimate"] == pytest.approx(.5 * UNIFORM) and row["objects"] == 1


def test_a_category_outside_the_80_covers_and_has_a_size_but_is_neither_animate_nor_inanimate():
    scene = scene_of(box(0, 0, 40, 40, name="dog"), box(0, 0, 40, 30, name="unicorn"),
                     box(0, 50, 40, 60, category_id=999))  # an id that the file does not explain
    row = E.measures(half_bright()[None], scene)[0]
    assert row["animate"] == pytest.approx(.5 * UNIFORM)  # what the unicorn leaves of the dog
    assert math.isnan(row["inanimate"]) and row["objects"] == 3 and row["outside"] == 2


def test_an_excluded_category_drops_the_image_from_animacy_alone():
    scene = scene_of(box(0, 0, 40, 20, name="person"), box(0, 30, 40, 60, name="car"),
                     box(0, 22, 5, 25, name="tv"))
    row = E.measures(half_bright()[None], scene)[0]
    assert row["excluded"] == 1 and math.isnan(row["animate"]) and math.isnan(row["inanimate"])
    assert row["small"] > 0 and row["objects"] == 3


@pytest.mark.parametrize("segmentation", [[], [[3, 3, 9, 9]], [[5, 5, 5, 5, 5, 5]], [[math.nan] * 6]])
def test_an_annotation_without_a_pixel_is_left_out_and_counted(segmentation):
    scene = scene_of(dict(segmentation=segmentation, area=0.), box(0, 0, 9, 9))
    row = E.measures(half_bright()[None], scene)[0]
    assert row["empty"] == 1 and row["objects"] == row["n_small"] == 1


def test_a_covered_object_counts_but_has_no_density_unless_whole_masks_are_asked_for():
    anns = [box(0, 0, 40, 30) | {"area": 1000.}, box(0, 0, 40, 30) | {"area": 2000.}]
    row = E.measures(half_bright()[None], scene_of(*anns))[0]
    assert row["objects"] == 2 and row["unseen"] == 1 and math.isnan(row["medium"])
    row = E.measures(half_bright()[None], scene_of(*anns, whole=True))[0]
    assert row["unseen"] == 0 and row["medium"] == row["small"] == pytest.approx(1.5 * UNIFORM)


def test_an_annotation_without_an_area_is_binned_by_its_pixels():
    ann = box(0, 0, 40, 30)
    del ann["area"]
    assert scene_of(ann).area.tolist() == [1200]


@pytest.mark.parametrize("form", [{"size": [5, 5], "counts": [5, 20]}, {"size": [40, 60], "counts": [5]},
                                  {"size": [40, 60]}, None, "x", [1, 2, 3, 4, 5, 6],
                                  {"size": [40, 60], "counts": [2500, -100]}, [[1, 1, 1e30, 1, 9, 9]],
                                  [[1, 1, math.nan, 1, 9, 9]]])  # pycocotools takes all memory, or crashes
def test_a_segmentation_that_does_not_fit_names_its_annotation(form):
    with pytest.raises(InputError, match="annotation 1 of image 1"):
        scene_of(dict(segmentation=form, area=1.))


# ------------------------------------------------------------------------------------------------ recovery

def human_bias(world: Path, out: Path) -> dict[str, dict]:
    found = run("--data", world, *HUMANS, "--out", out)
    return {t["analysis"]: t for t in found["tests"] if t["sources"] == ["human"]}


def test_planted_preferences_of_humans_are_recovered_with_sign_and_size(worlds, tmp_path):
    found, root = human_bias(worlds[True], tmp_path), worlds[True]
    coco, ids, _ = E.load_coco(root / "coco", "val")
    truth = {"animacy": [], "size": []}
    for i, image in enumerate(sorted(coco.imgs.values(), key=lambda im: im["id"])):
        # the density that the observers drew from, through the same blur, without their sampling noise
        scene = demo.crowded_scene(demo.SEED_OF["salicon_val"], i)
        scatter = math.hypot(demo.WORKER_SD, demo.SAMPLE_SD)
        wish = gaussian_blur(torch.tensor(demo.preference(scene, True)), scatter).ravel()
        rows, cols = (v.ravel() * 224 // n for v, n in zip(np.mgrid[:480, :640], (480, 640)))
        expected = density_map(rows, cols, (224, 224), 15, wish)
        row = E.measures(expected[None], E.make_scene(coco.imgToAnns[image["id"]], coco, 480, 640))[0]
        truth["animacy"].append(row["animate"] - row["inanimate"])
        truth["size"].append(row["small"] - row["large"])
    for analysis, t in found.items():
        low, high = t["ci"]
        assert low > 0 and t["p"] < .01 and t["n"] == N
        assert t["mean"] == pytest.approx(np.mean(truth[analysis]), rel=.15), analysis


def test_preferences_are_absent_when_the_observers_have_none(worlds, tmp_path):
    for analysis, t in human_bias(worlds[False], tmp_path).items():
        low, high = t["ci"]
        assert low < 0 < high and abs(t["mean"]) < .03, analysis  # planted: about .5 and .4
        assert t["p"] > .1


def test_a_model_that_attends_to_animate_objects_alone_is_told_by_the_bias(worlds, tmp_path):
    """Maps through --maps: one bright on animate regions, one on everything that is annotated."""
    root = worlds[True]
    coco, ids, _ = E.load_coco(root / "coco", "val")
    for name in ("animate", "objects"):
        (tmp_path / name).mkdir()
    for image in coco.imgs.values():
        scene = E.make_scene(coco.imgToAnns[image["id"]], coco, 480, 640)
        for name, region in (("animate", scene.regions[0]), ("objects", scene.regions[:2].any(0))):
            np.save(tmp_path / name / f"{Path(image['file_name']).stem}.npy", region.numpy().astype(np.uint8))
    tests = run("--data", root, *HUMANS, "--maps", tmp_path / "animate", "--maps", tmp_path / "objects",
                "--out", tmp_path / "out")["tests"]
    within = {t["sources"][0]: t for t in tests if t["analysis"] == "animacy" and len(t["sources"]) == 1}
    assert within["animate"]["mean"] > 1 and within["objects"]["mean"] == 0 == within["objects"]["t"]
    bias = next(t for t in tests if t["contrast"] == "bias: animate - objects" and t["analysis"] == "animacy")
    assert bias["t"] > 0 and bias["p"] < .01


# ------------------------------------------------------------------------------------------------ statistics

def test_the_paper_s_d_is_t_over_root_n_in_every_pair():
    """So it is d_z; and no number of the table is mistyped: the 12 pairs of t and d, differences of means."""
    pairs = {k: v[2:] for k, v in E.PAPER_WITHIN.items()} | E.PAPER_BETWEEN
    checked = 0
    for (analysis, *_), (_, t, p, d) in pairs.items():
        if isinstance(t, float) and isinstance(d, float):
            assert t / E.PAPER_N[analysis] ** .5 == pytest.approx(d, abs=.0051)
            checked += 1
    assert checked == 12
    for first, second, difference, t, *_ in E.PAPER_WITHIN.values():
        assert abs(first - second - difference) < .011 and np.sign(t) == np.sign(difference)


def rows_of(values: dict[str, dict[str, list]]) -> list[dict]:
    blank = dict.fromkeys(("entropy", "animate", "inanimate", "small", "medium", "large"), math.nan)
    blank |= dict.fromkeys(("excluded", "crowds", "empty", "unseen", "outside"), 0.) | {"objects": 3.}
    n = len(next(iter(next(iter(values.values())).values())))
    return [{"image": f"{i:03d}", "condition": k} | blank | {f: v[i] for f, v in fields.items()}
            for i in range(n) for k, fields in values.items()]


def test_every_number_of_the_paper_s_section_stands_in_the_table():
    rng = np.random.default_rng(0)
    fields = ("animate", "inanimate", "small", "large", "entropy")
    found = E.summarise(rows_of({k: {f: list(rng.random(9)) for f in fields} for k in "CBA"} |
                                {"human": {f: list(rng.random(9)) for f in fields}}))
    shown = [h["paper"] for h in found["headline"] if h["paper"] is not None]
    for v in [tuple(E.PAPER_N.values()), *E.PAPER_WITHIN.values(), *E.PAPER_BETWEEN.values(),
              *E.PAPER_ENTROPY.values()]:
        for number in v:
            if number is not None:
                shown.remove(number)
    assert not shown
    assert [h["name"] for h in found["headline"]][:2] == ["animacy: images", "animacy, human: animate"]


def test_paired_tests_equal_scipy_and_use_one_set_of_images():
    rng = np.random.default_rng(1)
    a, b = rng.random(20), rng.random(20)
    second = rng.random(20)
    second[:4] = math.nan  # four images without an inanimate object
    table = E.columns(rows_of({"A": {"animate": a, "inanimate": second, "entropy": a},
                               "B": {"animate": b, "inanimate": second, "entropy": b}}))
    tests = {(t["analysis"], t["contrast"], *t["sources"]): t for t in E.paired_tests(table)}
    t = tests["animacy", "animate: B - A", "B", "A"]
    assert t["t"] == pytest.approx(scipy.stats.ttest_rel(b[4:], a[4:]).statistic) and t["n"] == 16
    assert t["dz"] == pytest.approx((b - a)[4:].mean() / (b - a)[4:].std(ddof=1))
    assert tests["animacy", "bias: B - A", "B", "A"]["mean"] == pytest.approx((b - a)[4:].mean())
    assert tests["sparsity", "entropy: B - A", "B", "A"]["n"] == 20
    assert not any(k[0] == "size" for k in tests)  # no object of any size


def test_size_needs_two_objects():
    rows = rows_of({"A": {"small": [.1, .2, .3], "large": [.2, .1, .1], "objects": [1., 2., 3.]}})
    assert np.isfinite(E.columns(rows)["A"]["bias_size"]).tolist() == [False, True, True]


def test_entropy_is_binned_by_the_number_of_objects():
    rows = rows_of({"A": {"entropy": [1., 2., 4., 5., 6.], "objects": [0., 6., 7., 99., math.nan]}})
    bins = {r["objects"]: (r["mean"], r["n"]) for r in E.by_clutter(E.columns(rows))}
    assert bins == {"0": (1., 1), "6-7": (3., 2), "16+": (5., 1)}


# ------------------------------------------------------------------------------------------------ runs

def test_maps_of_any_size_and_format_are_read_and_bad_ones_are_missing(tmp_path):
    ramp = np.tile(np.linspace(0, 200, 64), (48, 1))
    np.save(tmp_path / "a.npy", ramp)
    Image.fromarray(ramp.round().astype(np.uint8)).save(tmp_path / "b.png")
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "rank3.npy", np.ones((4, 4, 3)))
    np.save(tmp_path / "huge.npy", np.array([[-3e38, 3e38], [0, 0]]))  # finite, but not their difference
    (tmp_path / "torn.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    a, b = (E.read_map(tmp_path / name) for name in ("a.npy", "b.png"))
    assert a.shape == (224, 224) and a.min() == 0 and a.max() == 1 and (a - b).abs().max() < .005
    assert (a[:, 1:] >= a[:, :-1]).all() and torch.equal(E.read_map(tmp_path / "a.npy"), a)
    for bad in ("nan.npy", "rank3.npy", "huge.npy", "torn.png"):
        assert E.read_map(tmp_path / bad).isnan().all()
    assert E.read_map(None).isnan().all()
    np.save(tmp_path / "flat.npy", np.full((3, 5), 7.))
    assert (E.read_map(tmp_path / "flat.npy") == 0).all()  # uniform, by density() and entropy()


def study(worlds, tuned, *more) -> list:
    return ["--data", worlds[True], "--model", "demo_sl12", "--model-b", tuned["B"], "--model-c", tuned["C"],
            "--limit", 10, "--batch-size", 4, "--workers", 0, "--device", "cpu", *more]


@pytest.fixture(scope="module")
def finished(worlds, tuned, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    run(*study(worlds, tuned, "--out", out))
    return out


def test_a_run_writes_rows_results_and_figures(worlds, tuned, finished):
    rows, results = read_csv(finished / "per_image.csv"), json.loads((finished / "results.json").read_text())
    assert list(rows[0])[:2] == ["image", "condition"] and len(rows) == 40
    assert {r["condition"] for r in rows} == {"A", "B", "C", "human"} and results["not_run"] == []
    assert {f"fig_3{k}.{e}" for k in "ABC" for e in ("png", "pdf")} <= {p.name for p in finished.iterdir()}
    assert results["counts"]["images"] == results["counts"]["animacy"] == 10
    a, b = ([r["entropy"] for r in rows if r["condition"] == k] for k in "AB")
    assert a != b  # B's attention weights were used
    root, names = worlds[True], {r["image"] for r in rows}
    used = [*(root / "salicon" / "images" / name for name in names), *gaze_files(root / "salicon"),
            root / "coco" / "annotations" / "instances_val2014.json", *tuned.values()]
    assert results["data_fingerprint"] == fingerprint(used)


def test_rows_of_a_torn_and_resumed_run_are_those_of_an_undisturbed_one(worlds, tuned, finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    with open(finished / "per_image.csv", newline="") as f:
        rows = list(csv.DictReader(f))  # as text: the same digits
    (tmp_path / "out" / "per_image.csv").unlink()
    names = sorted({r["image"] for r in rows})[:3]
    lines = [json.dumps([r for r in rows if r["image"] == name]) for name in names]
    (tmp_path / "out" / "per_image.part0.jsonl").write_text("\n".join(lines) + "\n" + lines[0][:99])
    run(*study(worlds, tuned, "--resume", "--out", tmp_path / "out"))
    assert (tmp_path / "out" / "per_image.csv").read_bytes() == (finished / "per_image.csv").read_bytes()
    with pytest.raises(InputError, match="other arguments"):
        run(*study(worlds, tuned, "--resume", "--split", "train", "--out", tmp_path / "out"))


def test_resume_keeps_no_row_of_another_model(worlds, tuned, tmp_path):
    mine, tables = {**tuned, "B": tmp_path / "b.pth"}, []
    for k in "BC":  # another B at the same path
        shutil.copy(tuned[k], mine["B"])
        run(*study(worlds, mine, "--limit", 3, "--resume", "--out", tmp_path / "out"))
        tables.append({r["condition"]: r["entropy"] for r in read_csv(tmp_path / "out" / "per_image.csv")})
    assert tables[0]["A"] == tables[1]["A"] and tables[1]["B"] == tables[1]["C"] != tables[0]["B"]


def test_bare_command_runs_the_demo_and_redraws(tmp_path, capsys):
    job = [ROOT / "exp03_biases.py", "--limit", 12, "--workers", 0, "--device", "cpu"]
    job += ["--out", tmp_path / "out"]
    said = command(*job, cwd=tmp_path)
    assert "not the paper's data" in said and "animacy, human: animate" in said
    for k in "BC":  # shipped, or said to be missing
        assert (f"animacy, {k}: animate" in said) == (ROOT / "checkpoints" / f"demo_{k}.pth").exists()
    before = (tmp_path / "out" / "fig_3A.png").read_bytes()
    (tmp_path / "out" / "fig_3A.png").unlink()
    E.main([*map(str, job[1:]), "--plot-only"])
    assert "animacy, human: animate" in capsys.readouterr().out
    assert (tmp_path / "out" / "fig_3A.png").read_bytes() == before


def written_commands() -> list[str]:
    text = E.__doc__ + (ROOT / "README.md").read_text(encoding="utf-8")
    return sorted({m.strip() for m in re.findall(r"(exp03_biases\.py(?: +[-\w.=/]+)*)", text)})


@pytest.mark.parametrize("written", written_commands())
def test_written_commands_pass_the_parser(written):
    E.parse(shlex.split(written)[1:])


# ------------------------------------------------------------------------------------------------ bad input

def test_a_world_without_annotations_has_entropies_and_says_what_was_not_run(worlds, tmp_path):
    results = run("--salicon", worlds[True] / "salicon", *HUMANS, "--limit", 5, "--out", tmp_path / "out")
    assert "give --coco" in results["not_run"][0]
    names = [h["name"] for h in results["headline"] if h["ours"]]
    assert "sparsity, human: entropy" in names and not any("animate" in name for name in names)
    assert results["counts"]["not in the annotation file"] == 5
    assert not (tmp_path / "out" / "fig_3A.png").exists() and (tmp_path / "out" / "fig_3C.png").exists()


@pytest.fixture
def copied(worlds, tmp_path) -> Path:
    """A small world to be damaged."""
    root = tmp_path / "world"
    for part in ("salicon", "coco/annotations"):
        (root / part).mkdir(parents=True)
    (root / "salicon" / "images").mkdir()
    gaze = json.loads((worlds[True] / "salicon" / "fixations_val2014.json").read_text())
    gaze["images"] = gaze["images"][:5]
    ids = {image["id"] for image in gaze["images"]}
    gaze["annotations"] = [a for a in gaze["annotations"] if a["image_id"] in ids]
    (root / "salicon" / "fixations_val2014.json").write_text(json.dumps(gaze))
    for image in gaze["images"]:
        shutil.copy(worlds[True] / "salicon" / "images" / image["file_name"], root / "salicon" / "images")
    annotations = Path("coco") / "annotations" / "instances_val2014.json"
    shutil.copy(worlds[True] / annotations, root / annotations)
    return root


def test_unreadable_and_unseen_images_are_listed_and_missing_maps_counted(copied, tmp_path):
    names = sorted(p.name for p in (copied / "salicon" / "images").iterdir())
    (copied / "salicon" / "images" / names[0]).write_bytes(b"no image")
    (copied / "salicon" / "images" / names[3]).unlink()
    gaze = json.loads((copied / "salicon" / "fixations_val2014.json").read_text())
    for a in gaze["annotations"]:
        if a["image_id"] == gaze["images"][1]["id"]:
            a["fixations"] = []
    (copied / "salicon" / "fixations_val2014.json").write_text(json.dumps(gaze))
    (tmp_path / "mine").mkdir()
    Image.new("L", (9, 9), 3).save(tmp_path / "mine" / f"{Path(names[2]).stem}.png")
    results = run("--data", copied, *HUMANS, "--maps", tmp_path / "mine", "--out", tmp_path / "out")
    assert results["unreadable"] == [names[0]] and results["counts"]["images"] == 2
    assert results["left_out"] == {"val, missing": [names[3]], "val, no fixations": [names[1]]}
    assert results["counts"]["without a map of mine"] == 1
    uniform = [r for r in read_csv(tmp_path / "out" / "per_image.csv") if r["condition"] == "mine"
               and r["image"] == names[2]]
    assert uniform[0]["animate"] == UNIFORM and uniform[0]["entropy"] == pytest.approx(math.log2(50_176))


def test_names_of_2014_and_2017_meet(copied):
    coco, ids, _ = E.load_coco(copied / "coco", "val")
    assert E.plain_name("COCO_val2014_000000200001.jpg") == E.plain_name("000000200001.jpg") == "000000200001"
    assert E.plain_name("COCO_my_photo.jpg") == "COCO_my_photo" and ids["000000200001"] == 200_001


@pytest.mark.parametrize("damage, said", [
    (lambda d: d["annotations"][0].update(segmentation={"size": [2, 2], "counts": [4]}), "annotation"),
    (lambda d: d["annotations"][0].pop("segmentation"), "annotation"),
    (lambda d: d["annotations"][0].pop("category_id"), "category_id"),
    (lambda d: d["images"][0].pop("height"), "height"),
    (lambda d: d["images"][0].pop("file_name"), "file_name"),
    (lambda d: d.pop("annotations"), "annotations")])
def test_damaged_annotations_end_in_one_sentence(copied, tmp_path, damage, said):
    file = copied / "coco" / "annotations" / "instances_val2014.json"
    data = json.loads(file.read_text())
    damage(data)
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=said) as error:
        run("--data", copied, *HUMANS, "--out", tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argv, said", [
    ("--data /nowhere", "no such folder"), ("--data W --sources human --maps /nowhere", "--maps"),
    ("--data W --sources human --maps A", "--maps"), ("--data W --sources human --maps D --maps D", "--maps"),
    ("--salicon S --coco /nowhere", "--coco /nowhere: no such folder"), ("--coco C", "--salicon"),
    ("--plot-only", "--plot-only"), ("--salicon /nowhere", "no such folder"),
    ("--salicon S --coco A", "instances_"),
    ("--data W --model demo_sl12 --model-b no.pth --limit 2", "no such weight file")])
def test_wrong_arguments_end_in_one_sentence(argv, said, worlds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "AD":
        (tmp_path / name).mkdir()
    argv = argv.replace("S ", f"{worlds[True]}/salicon ").replace("W ", f"{worlds[True]} ")
    argv = argv.replace(" C", f" {worlds[True]}/coco")
    with pytest.raises(InputError, match=said):
        E.main([*argv.split(), "--workers", "0", "--device", "cpu", "--out", str(tmp_path / "out")])


def test_an_object_of_two_overlapping_annotation_files_counts_once(copied):
    folder = copied / "coco" / "annotations"
    one = E.load_coco(copied / "coco", "val")[0]
    shutil.copy(folder / "instances_val2014.json", folder / "instances_a.json")
    (folder / "instances_val2014.json").rename(folder / "instances_b.json")
    two, _, files = E.load_coco(copied / "coco", "val")
    assert len(files) == 2 and {k: len(v) for k, v in two.imgToAnns.items()} == {
        k: len(v) for k, v in one.imgToAnns.items()}


def test_wrong_input_is_status_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        cli(lambda: E.main(["--data", "/nowhere", "--out", str(tmp_path)]))
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("error: --data /nowhere: no such folder")
