"""exp03_biases: masks are COCO's, densities and entropies what they say, planted preferences are found."""
import itertools
import json
import math
import os
import re
import shutil
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
from by_formula import bars, mean_and_sem
from common import InputError, density_map, gaussian_blur, generator
from data import coco_files, plain_name, read_csv, read_map
from gaze import GazeImage
from pretended import one_device
from processes import command, interrupted
from results import figure_grid

torch.set_num_threads(1)
ROOT = Path(__file__).resolve().parents[1]
SHARED = Path(os.environ.get("GAZE_SHARED", ROOT.parent / "shared"))
N = 24  # images of the worlds below
FAST = "--model demo_sl4 --workers 0 --device cpu".split()
UNIFORM = 10_000 / 50_176


@pytest.fixture(scope="session")
def worlds() -> dict[bool, Path]:
    """{planted: a demo world with N validation images}."""
    return {True: demo.demo_world(parts=("salicon",)),
            False: demo.demo_world(parts=("salicon",), planted=False)}


@pytest.fixture
def no_figures(monkeypatch) -> None:
    monkeypatch.setattr(E, "draw", lambda *args: None)


def run(*argv) -> dict:
    """Results of a run in this process; the last argument pair must be --out FOLDER."""
    E.main([*map(str, argv)])
    return json.loads((Path(argv[-1]) / "results.json").read_text())


def coco_of(*anns: dict, img_h: int = 40, img_w: int = 60) -> COCO:
    """One image, id 1, with these annotations: name (of the category), segmentation, and other fields."""
    names = [*E.ANIMATE, *E.EXCLUDED, "car"]
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


def checked(coco: COCO, i: int = 1) -> list[dict]:
    """Annotations of an image as load_scenes gives them."""
    anns = [E.with_mask(ann, coco, coco.imgs[i], Path("instances.json")) for ann in coco.imgToAnns[i]]
    return [ann for ann in anns if ann["segmentation"]]


def measures(m: torch.Tensor, coco: COCO, i: int = 1) -> dict[str, float]:
    """Densities of one map on one image."""
    anns, image = checked(coco, i), coco.imgs[i]
    canvas = E.paint_masks(anns, coco, image["height"], image["width"])[None, None].float()
    canvas = torch.nn.functional.interpolate(canvas, E.MAP_SIZE, mode="nearest-exact")[0, 0]
    return {k: E.density(m[None], r).nanmean().item() for k, r in E.regions_of(canvas, anns).items()}


def half_bright() -> torch.Tensor:
    """A map of 3 on the left half, 1 on the right: densities 1.5 and .5 times the uniform one."""
    return torch.cat([torch.full((224, 112), 3.), torch.ones(224, 112)], 1)


# ------------------------------------------------------------------------------------------------ masks

def test_categories_are_coco_s():
    coco = {category["name"] for category in demo.COCO_CATEGORIES}
    assert (len(E.ANIMATE), len(E.EXCLUDED), len(coco)) == (11, 5, 80)
    assert {*E.ANIMATE, *E.EXCLUDED} <= coco and not set(E.ANIMATE) & set(E.EXCLUDED)
    animals = {category["name"] for category in demo.COCO_CATEGORIES if category["supercategory"] == "animal"}
    assert set(E.ANIMATE) == animals | {"person"}
    assert set(E.EXCLUDED) == {"tv", "laptop", "cell phone", "teddy bear", "potted plant"}


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
        coco = coco_of({"segmentation": form, "area": 460.})
        assert np.array_equal(E.paint_masks(checked(coco), coco, 40, 60) == 0, pixels)


def test_masks_shrink_by_the_nearest_pixel_centre_as_pil_does(tmp_path):
    """On every image size of up to 640 px but for the centres on an edge, which PIL rounds otherwise."""
    for n in (*range(30, 640, 7), 480, 640):
        canvas = torch.arange(n).view(1, 1, n, 1).float().expand(1, 1, n, 224)
        ours = torch.nn.functional.interpolate(canvas, E.MAP_SIZE, mode="nearest-exact")[0, 0, :, 0]
        assert ours.tolist() == [int((r + .5) * n / 224) for r in range(224)], n


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
    coco, _ = E.load_scenes(SHARED / "real" / "coco_tiny", [])
    count = differing = pixels = 0
    for image in coco.imgs.values():
        anns, size = coco.imgToAnns[image["id"]], (image["height"], image["width"])
        for ann in anns:
            ours = coco.annToMask(E.with_mask(ann, coco, image, Path("f")))
            form = ann["segmentation"]
            count += 1
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
            wins = (coco.annToMask(ann) == 1) & (ann["area"] <= above)
            top[wins], above[wins] = i, ann["area"]
        assert np.array_equal(E.paint_masks(anns, coco, *size), top)
    assert count == 815 and differing < .002 * pixels  # 80 images, 11 of the annotations are crowds
    print(f"{count} annotations, {differing} of {pixels} pixels differ, all within .2 px of an outline")


@pytest.mark.real
def test_uniform_attention_has_the_uniform_density_in_every_region_of_real_images():
    if not (SHARED / "real" / "coco_tiny").is_dir():
        pytest.skip(f"no {SHARED}/real/coco_tiny; set GAZE_SHARED")
    coco, _ = E.load_scenes(SHARED / "real" / "coco_tiny", [])
    for i in coco.imgs:
        values = list(measures(torch.full((224, 224), .37), coco, i).values())
        assert all(math.isnan(v) or abs(v - UNIFORM) < 1e-15 for v in values)


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
    row = measures(half_bright(), coco_of(*anns, img_h=200, img_w=400))
    assert row["small"] == pytest.approx(UNIFORM * (1.5 + .5) / 2)  # one object in each half
    assert row["medium"] == pytest.approx(UNIFORM * 1.5)
    assert row["large"] == pytest.approx(UNIFORM * .5, rel=.02)     # one column straddles the middle


def test_measures_equal_a_plain_loop_over_pixels(worlds):
    root = worlds[True]
    coco, _ = E.load_scenes(root / "coco", [])
    image = next(im for im in coco.imgs.values() if len(coco.imgToAnns[im["id"]]) > 4)
    anns, m = coco.imgToAnns[image["id"]], torch.rand(224, 224, generator=generator(4)).numpy().astype(float)
    row = measures(torch.tensor(m), coco, image["id"])
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


def test_an_area_on_the_border_of_two_bins_belongs_to_the_larger_one():
    areas = (1023.5, 1024., 9215.5, 9216.)
    anns = [box(0, 20 * k, 20, 20 * k + 20) | {"area": area} for k, area in enumerate(areas)]
    anns.append(box(0, 100, 20, 120, iscrowd=1) | {"area": 300.})
    coco = coco_of(*anns, img_h=224, img_w=224)
    anns = checked(coco)
    regions = E.regions_of(E.paint_masks(anns, coco, 224, 224), anns)
    left = {k: sorted(int(m.any(0).nonzero()[0]) for m in regions[k]) for k in ("small", "medium", "large")}
    assert left == {"small": [0], "medium": [20, 40], "large": [60]}  # the crowd, at 100, is in none


def test_scenes_count_objects_without_crowds_and_one_excluded_thing_excludes_the_image(tmp_path):
    triangle, line = [[1, 1, 9, 1, 1, 9]], [[1, 1, 9, 9]]
    categories = ["person", "tv", "car"]
    anns = {1: [("person", 0, triangle), ("car", 0, line), ("car", 0, [[*triangle[0], 9, 9]])],
            2: [("car", 0, triangle), ("tv", 0, triangle)],
            3: [("person", 1, {"size": [20, 20], "counts": [100, 300]}), ("person", 0, triangle)], 4: []}
    flat = [dict(image_id=i, category_id=categories.index(name), iscrowd=crowd, segmentation=form, area=30)
            for i, some in anns.items() for name, crowd, form in some]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "instances_val2014.json").write_text(json.dumps(dict(
        images=[dict(id=i, file_name=f"{i}.jpg", height=20, width=20) for i in anns],
        categories=[dict(id=k, name=name) for k, name in enumerate(categories)],
        annotations=[ann | {"id": k} for k, ann in enumerate(flat)])))
    _, scenes = E.load_scenes(tmp_path, [f"{i}.jpg" for i in anns])
    assert [scene["objects"] for scene in scenes] == [2, 2, 1, 0]
    assert [scene["excluded"] for scene in scenes] == [0, 1, 0, 0]
    assert [[ann["name"] for ann in scene["anns"]] for scene in scenes] == [
        ["person", "car"], ["car", "tv"], ["person", "person"], []]


def test_what_is_where_is_read_at_the_nearest_pixel_centre(tmp_path):
    anns = [box(60 * k, 0, 60 * k + 60, 640 - 70 * k) for k in range(8)] + [box(7, 100 * k, 470, 100 * k + 1)
                                                                            for k in range(6)]
    coco = coco_of(*anns, img_h=480, img_w=640)
    scene = dict(anns=checked(coco), height=480, width=640, objects=14., excluded=0.)
    image = GazeImage("a.jpg", tmp_path / "a.jpg", [], (480, 640))
    canvas = E.looked_at(0, [image], coco, [scene], {})["canvas"]
    painted = E.paint_masks(scene["anns"], coco, 480, 640)
    for r in range(224):
        row = painted[int((r + .5) * 480 / 224)]
        assert canvas[r].tolist() == [row[int((c + .5) * 640 / 224)] for c in range(224)], r


def test_a_batch_has_the_mean_density_over_the_objects_of_each_source(tmp_path):
    """Two images; on the first three small objects, one of them covered, and a large one."""
    first = [box(0, 0, 20, 20, name="person"), box(0, 40, 30, 60), box(100, 0, 220, 100, name="dog"),
             box(100, 190, 120, 220, name="car"), box(100, 190, 120, 220, name="cat")]  # the last one on top
    coco = coco_of(*first, img_h=224, img_w=224)
    gaze = [(np.array([3, 3, 200], np.int16), np.array([5, 5, 7], np.int16)),
            (np.array([3], np.int16), np.array([5], np.int16))]
    images = [GazeImage("a.jpg", tmp_path / "a.jpg", gaze, (224, 224))] * 2
    anns = [E.with_mask(ann, coco, coco.imgs[1], Path("f")) for ann in coco.imgToAnns[1]]
    scenes = [dict(anns=some, height=224, width=224, objects=float(len(some)), excluded=0.)
              for some in (anns, anns[:1])]
    ramp = np.arange(224 * 224.).reshape(224, 224)
    np.save(tmp_path / "m.npy", ramp**2 + 5)
    items = [E.looked_at(i, images, coco, scenes, {"mine": [tmp_path / "m.npy"] * 2}) for i in range(2)]
    assert items[0]["counts"][3, 5] == 3 and items[0]["counts"].sum() == 4
    batch = torch.utils.data.default_collate([item | dict(index=i, image=torch.zeros(1), readable=True)
                                              for i, item in enumerate(items)])

    def model(x):
        return None, torch.tensor(ramp[::-1].copy())[None].repeat(2, 1, 1)
    everyone = torch.zeros(224, 224).index_put((torch.tensor([3, 9, 200]), torch.tensor([5, 90, 7])),
                                               torch.tensor([40., 9, 20]))
    found = E.measure(batch, [model], scenes, everyone, torch.device("cpu"), torch.float32)
    human = gaussian_blur(torch.tensor(items[0]["counts"])[None], 15)[0].double().numpy()
    human = (human - human.min()) / (human.max() - human.min())
    y, x = np.mgrid[:224, :224] - 111.5
    priors = []  # of everyone's fixations on the other images: a Gaussian, and blurred
    for others in (everyone - torch.from_numpy(item["counts"]) for item in items):
        sd = [float((others.numpy() * k**2).sum() / others.sum())**.5 for k in (y, x)]
        blurred = gaussian_blur(others.double()[None], 15)[0].numpy()
        priors.append((np.exp(-.5 * (y / sd[0])**2 - .5 * (x / sd[1])**2), blurred - blurred.min()))
    for i, of_image in enumerate(priors):
        for s, m in enumerate(of_image, 3):
            assert found["entropy"][i, s].item() == pytest.approx(scipy.stats.entropy(m.ravel(), base=2), rel=1e-4)
            assert found["large"][0, s].item() == pytest.approx(
                10_000 * priors[0][s - 3][100:220, 0:100].mean() / priors[0][s - 3].sum(), rel=1e-3)
    for s, m in enumerate((human, ramp[::-1], ramp**2)):  # people, the model, the other model's map less its min
        share = 10_000 * m / m.sum()
        boxes = [share[a:c, b:d].mean() for a, b, c, d in ((0, 0, 20, 20), (0, 40, 30, 60), (100, 0, 220, 100))]
        top = share[100:120, 190:220].mean()
        animate = (400 * boxes[0] + 12_000 * boxes[2] + 600 * top) / 13_000
        expected = [dict(animate=animate, inanimate=boxes[1], small=(boxes[0] + boxes[1] + top) / 3,
                         medium=math.nan, large=boxes[2]),
                    dict(animate=boxes[0], inanimate=math.nan, small=boxes[0], medium=math.nan, large=math.nan)]
        for i in range(2):
            for name, value in expected[i].items():
                assert found[name][i, s].item() == pytest.approx(value, rel=1e-3, nan_ok=True), (i, s, name)
            assert found["entropy"][i, s].item() == pytest.approx(
                scipy.stats.entropy(m.ravel(), base=2), rel=1e-4)
    assert found["objects"].tolist() == [5, 1] and found["excluded"].tolist() == [0, 0]


# ------------------------------------------------------------------------------------------------ odd images

def test_an_image_without_annotations_has_no_density():
    assert all(math.isnan(v) for v in measures(half_bright(), coco_of()).values())


def test_crowds_are_painted_but_are_no_objects():
    left_half = {"size": [40, 60], "counts": [0, 1200, 1200]}
    crowd = dict(name="person", iscrowd=1, area=1200., segmentation=left_half)
    row = measures(half_bright(), coco_of(crowd))  # all-crowd image: left half animate
    assert row["animate"] == pytest.approx(1.5 * UNIFORM)
    assert all(math.isnan(row[k]) for k in ("inanimate", "small", "medium", "large"))
    row = measures(half_bright(), coco_of(crowd, box(0, 30, 40, 60, name="car")))
    assert row["inanimate"] == row["medium"] == pytest.approx(.5 * UNIFORM)


def test_an_excluded_category_drops_the_image_from_animacy_alone():
    arrays = {name: np.ones((2, 2)) for name in ("entropy", *E.REGIONS)}
    arrays |= dict(sources=np.array(["human", "A"]), objects=np.array([3., 3]), excluded=np.array([1., 0]))
    fields = E.by_source(arrays)["A"]
    assert np.isnan(fields["bias_animacy"]).tolist() == np.isnan(fields["animate"]).tolist() == [True, False]
    assert np.isfinite(fields["bias_size"]).all() and np.isfinite(fields["entropy"]).all()


@pytest.mark.parametrize("segmentation", [[], [[3, 3, 9, 9]]])
def test_an_annotation_without_a_polygon_of_three_points_is_left_out(segmentation):
    coco = coco_of(dict(segmentation=segmentation, area=0.), box(0, 0, 9, 9))
    assert len(checked(coco)) == 1 and measures(half_bright(), coco)["small"] > 0


def test_a_covered_object_has_no_density():
    anns = [box(0, 0, 40, 30) | {"area": 1000.}, box(0, 0, 40, 30) | {"area": 2000.}]
    row = measures(half_bright(), coco_of(*anns))
    assert math.isnan(row["medium"]) and row["small"] == pytest.approx(1.5 * UNIFORM)


@pytest.mark.parametrize("form", [{"size": [5, 5], "counts": [5, 20]}, {"size": [40, 60], "counts": [5]},
                                  {"size": [40, 60]}, None, "x", [1, 2, 3, 4, 5, 6],
                                  {"size": [40, 60], "counts": [2500, -100]}, [[1, 1, 1e30, 1, 9, 9]],
                                  [[1, 1, math.nan, 1, 9, 9]], [[math.nan] * 6]])  # pycocotools would crash
def test_a_segmentation_that_does_not_fit_names_its_annotation(form):
    with pytest.raises(InputError, match="instances.json, annotation 1:"):
        checked(coco_of(dict(segmentation=form, area=1.)))


# ------------------------------------------------------------------------------------------------ recovery

def biases(world: Path, out: Path, source: str = "human", *more) -> dict[str, dict]:
    """{"animacy", "size": the headline's mean difference and p} of a source."""
    found = {h["name"]: h for h in run("--data", world, *FAST, *more, "--out", out)["headline"]}
    return {k: found[f"{k}, {source}: mean difference"] | {"p": found[f"{k}, {source}: p"]["ours"]}
            for k in ("animacy", "size")}


def test_planted_preferences_of_humans_are_recovered_with_sign_and_size(worlds, tmp_path, no_figures):
    found, root = biases(worlds[True], tmp_path), worlds[True]
    coco, _ = E.load_scenes(root / "coco", [])
    truth = {"animacy": [], "size": []}
    for i, image in enumerate(sorted(coco.imgs.values(), key=lambda im: im["id"])):
        # the density that the observers drew from, through the same blur, without their sampling noise
        scene = demo.crowded_scene(demo.SEED_OF["salicon_val"], i)
        scatter = math.hypot(demo.WORKER_SD, demo.SAMPLE_SD)
        wish = gaussian_blur(torch.tensor(demo.preference(scene, True)), scatter).ravel()
        rows, cols = (v.ravel() * 224 // n for v, n in zip(np.mgrid[:480, :640], (480, 640)))
        row = measures(density_map(rows, cols, (224, 224), 15, wish), coco, image["id"])
        truth["animacy"].append(row["animate"] - row["inanimate"])
        truth["size"].append(row["small"] - row["large"])
    for analysis, bias in found.items():
        assert bias["ci"][0] > 0 and bias["p"] < .01 and bias["n"] == N
        assert bias["ours"] == pytest.approx(np.mean(truth[analysis]), rel=.15), analysis


def test_preferences_are_absent_when_the_observers_have_none(worlds, tmp_path, no_figures):
    for analysis, bias in biases(worlds[False], tmp_path).items():
        low, high = bias["ci"]
        assert low < 0 < high and abs(bias["ours"]) < .03, analysis  # planted: about .5 and .4
        assert bias["p"] > .1


def test_a_model_that_attends_to_animate_objects_alone_is_told_by_the_bias(worlds, tmp_path, no_figures):
    """Maps through --maps: one bright on animate regions, one on everything that is annotated."""
    root = worlds[True]
    coco, _ = E.load_scenes(root / "coco", [])
    for name in ("animate", "objects"):
        (tmp_path / name).mkdir()
    for i, image in coco.imgs.items():
        canvas = E.paint_masks(checked(coco, i), coco, 480, 640)[None, None].float()
        canvas = torch.nn.functional.interpolate(canvas, E.MAP_SIZE, mode="nearest-exact")[0, 0]
        regions = E.regions_of(canvas, checked(coco, i))
        for name, region in (("animate", regions["animate"][0]), ("objects", canvas >= 0)):
            np.save(tmp_path / name / f"{Path(image['file_name']).stem}.npy", region.numpy().astype(np.uint8))
    results = run("--data", root, *FAST, "--maps", tmp_path / "animate", "--maps", tmp_path / "objects",
                  "--out", tmp_path / "out")
    found = {h["name"]: h["ours"] for h in results["headline"]}
    assert found["animacy, animate: mean difference"] > 1
    assert found["animacy, objects: mean difference"] == 0 == found["animacy, objects: t"]
    bias = next(t for t in results["tests"] if t["contrast"] == "bias_animacy: objects - animate")
    assert bias["t"] < 0 and bias["p"] < .01


# ------------------------------------------------------------------------------------------------ statistics

def test_the_paper_s_d_is_t_over_root_n_in_every_pair():
    """So it is d_z; and no number of the table is mistyped: the 12 pairs of t and d, differences of means."""
    checked = 0
    for (analysis, *who), numbers in E.PAPER.items():
        *_, t, _, d = [None, None, *numbers]
        if analysis != "sparsity" or len(who) == 2:
            if isinstance(t, float) and isinstance(d, float):
                assert t / E.PAPER_N[analysis] ** .5 == pytest.approx(d, abs=.0051)
                checked += 1
        if analysis != "sparsity" and len(who) == 1:
            first, second, difference, t, *_ = numbers
            assert abs(first - second - difference) < .011 and np.sign(t) == np.sign(difference)
    assert checked == 12


def arrays_of(values: dict[str, dict[str, list]], **images) -> dict[str, np.ndarray]:
    """Arrays as of a run: {source: {field: (n,)}}, other fields NaN; images: objects, excluded."""
    n = max(len(v) for fields in values.values() for v in fields.values())
    arrays = {field: np.stack([v.get(field, np.full(n, np.nan)) for v in values.values()], 1)
              for field in ("entropy", *E.REGIONS)}
    return arrays | dict(sources=np.array(list(values)), objects=np.array(images.get("objects", [3.] * n)),
                         excluded=np.array(images.get("excluded", [0.] * n)))


def test_every_number_of_the_paper_s_section_stands_in_the_table():
    rng = np.random.default_rng(0)
    fields = ("animate", "inanimate", "small", "large", "entropy")
    table = E.by_source(arrays_of({k: {f: rng.random(9) for f in fields} for k in ("human", "A", "B", "C")}))
    headline = E.evaluate(E.claims(list(table)), table)
    shown = [h["paper"] for h in headline if h["paper"] is not None]
    for numbers in (tuple(E.PAPER_N.values()), *E.PAPER.values()):
        for number in numbers:
            if number is not None:
                shown.remove(number)
    assert shown == ["all", "all"]  # levels of clutter, in words
    assert [h["name"] for h in headline][:2] == ["animacy: images", "animacy, human: animate"]


def hand_made(n: int = 90) -> dict[str, np.ndarray]:
    """Arrays of a run: no two sources, fields or images are alike; images of an excluded category, of no, one
    or more objects, without a kind of region, and unknown to COCO."""
    rng = np.random.default_rng(3)
    sources = ("human", "A", "B", "C")
    arrays = {field: rng.gamma(4, .1, (n, 1)) + rng.gamma(2, .05 * (k + 1), (n, 4)) * np.array([3, 1, 2, 1.5])
              for k, field in enumerate(E.REGIONS)}
    objects = rng.integers(0, 6, n).astype(float)
    excluded = (rng.random(n) < .1) * 1.
    objects[:4], excluded[:4] = math.nan, math.nan  # COCO lacks them
    for k, field in enumerate(E.REGIONS):  # regions that an image has not: the same of every source
        arrays[field][rng.random(n) < .15 + .05 * k] = math.nan
        arrays[field][:4] = math.nan
    arrays["medium"][8:, 1] = math.nan
    entropy = rng.normal(15, .1, (n, 1)) + rng.normal([-.3, 0, .03, .1], .2, (n, 4))
    return arrays | dict(entropy=entropy, sources=np.array(sources), objects=objects, excluded=excluded)


def of_a_test(a, b) -> dict[str, tuple]:
    """{number of a paired t test: (ours, low, high)}."""
    test, n = scipy.stats.ttest_rel(a, b), len(a)
    ci, d = test.confidence_interval(), np.mean(a - b) / np.std(a - b, ddof=1)
    half = 1.96 * (1 / n + d**2 / (2 * n))**.5
    return {"mean difference": (np.mean(a - b), ci.low, ci.high), "t": (test.statistic, None, None),
            "p": (test.pvalue, None, None), "d": (d, d - half, d + half)}


def sets_of_images(arrays: dict) -> dict[str, np.ndarray]:
    """{analysis: which images}: both kinds of region; no excluded category; for size, two objects or more."""
    n = range(len(arrays["objects"]))
    has = {field: [not math.isnan(v) for v in arrays[field][:, 0]] for field in E.REGIONS}
    return {"animacy": np.array([has["animate"][i] and has["inanimate"][i] and arrays["excluded"][i] == 0 for i in n]),
            "size": np.array([has["small"][i] and has["large"][i] and arrays["objects"][i] >= 2 for i in n]),
            "sparsity": np.array([True for _ in n])}


def test_every_line_of_the_table_equals_scipy_on_one_set_of_images_an_analysis():
    arrays = hand_made()
    rows = {row["name"]: row for row in E.evaluate(E.claims(list("ABC") + ["human"]), E.by_source(arrays))}
    sets, column = sets_of_images(arrays), {k: s for s, k in enumerate(arrays["sources"])}
    assert (arrays["objects"][sets["animacy"]] < 2).any() and (arrays["excluded"][sets["size"]] == 1).any()
    v = {(of, field, k): arrays[field][sets[of], s] for k, s in column.items() for of, field in (
        ("animacy", "animate"), ("animacy", "inanimate"), ("size", "small"), ("size", "large"),
        ("sparsity", "entropy"))}
    expected, size = {}, {of: int(kept.sum()) for of, kept in sets.items()}
    for of, first, second in (("animacy", "animate", "inanimate"), ("size", "small", "large")):
        expected[f"{of}: images"] = (size[of], None, None)
        for k in column:
            a, b = v[of, first, k], v[of, second, k]
            expected |= {f"{of}, {k}: {first}": (a.mean(), ..., ...), f"{of}, {k}: {second}": (b.mean(), ..., ...)}
            expected |= {f"{of}, {k}: {name}": line for name, line in of_a_test(a, b).items()}
        for k in "AC":
            test = of_a_test(v[of, first, "B"], v[of, first, k])
            expected |= {f"{of}, {first}: B - {k}: {name}": line for name, line in test.items()}
    expected["sparsity: images"] = (90, None, None)
    entropy = {k: v["sparsity", "entropy", k] for k in column}
    for k, values in entropy.items():
        expected[f"sparsity, {k}: entropy"] = (sum(values) / 90, ..., ...)
        expected[f"sparsity, {k}: SD"] = ((sum((values - values.mean())**2) / 89)**.5, None, None)
    for a, b in (("B", "A"), ("B", "C"), ("C", "A"), ("A", "human"), ("B", "human"), ("C", "human")):
        test = of_a_test(entropy[a], entropy[b])
        expected |= {f"sparsity, entropy: {a} - {b}: {name}": line for name, line in test.items()}
    for k in "AC":
        means = [[entropy[j][arrays["objects"] == objects].mean() for j in ("B", k)] for objects in range(6)]
        below = sum(b < other for b, other in means)
        expected[f"sparsity: levels of clutter with B below {k}"] = (f"{below} of 6", None, None)
    assert set(rows) == set(expected)
    for name, (ours, low, high) in expected.items():
        row = rows[name]
        assert row["ours"] == (ours if isinstance(ours, str) else pytest.approx(ours, rel=1e-9)), name
        assert row["n"] == size[name.split(",")[0].split(":")[0]], name
        if low is None:
            assert row["ci"] is None, name
        elif low is ...:  # of a bootstrap
            assert row["ci"][0] < ours < row["ci"][1], name
        else:
            assert row["ci"] == pytest.approx((low, high), rel=1e-9), name


def test_bars_are_means_with_one_standard_error_over_the_same_images(monkeypatch, tmp_path):
    arrays, kept = hand_made(), {}
    monkeypatch.setattr(E, "save_figure", lambda fig, path: kept.update({path.name: fig}))
    E.draw(arrays, {}, tmp_path)
    sets = sets_of_images(arrays)
    for letter, of, first, second in (("A", "animacy", "animate", "inanimate"), ("B", "size", "small", "large")):
        left, right = kept[f"fig_3{letter}"].axes[:2]
        a, b = (arrays[field][sets[of]].T for field in (first, second))  # (4, images)
        (uniform,) = [line.get_ydata()[0] for line in right.lines if line.get_linestyle() == ":"]
        assert uniform == pytest.approx(1e4 / 224**2)
        for ax, values in ((left, a - b), (right, np.concatenate([a, b]))):
            assert bars(ax) == pytest.approx(np.array([mean_and_sem(v) for v in values]))
    left, right = kept["fig_3C"].axes[:2]
    less = (arrays["entropy"] - arrays["entropy"][:, [1]]).T  # than model A's
    assert bars(left) == pytest.approx(np.array([mean_and_sem(v) for v in less]))
    for line, values in zip(right.containers, arrays["entropy"].T):
        some = [values[arrays["objects"] == k] for k in range(6)]
        assert line.lines[0].get_ydata() == pytest.approx([v.mean() for v in some])
        ends = np.array([end[:, 1] for end in line.lines[2][0].get_segments()])
        assert ends[:, 1] - ends[:, 0] == pytest.approx([2 * v.std(ddof=1) / len(v)**.5 for v in some])


SMALL_P = "p < 0.001"


def row_of(of: str, *numbers) -> dict:
    """{row: number} of two densities, their mean difference, t, p, d."""
    pair = ("animate", "inanimate") if of.startswith("animacy") else ("small", "large")
    names = (*pair, "mean difference", "t", "p", "d")
    return {f"{of}: {name}": number for name, number in zip(names, numbers)}


CLAIMS = {  # of the section Cognitive Bias and the caption of figure 3: {row: the paper's number}
    "2,619 images have animate and inanimate objects": {"animacy: images": 2619},
    "people attend more to animate regions": row_of("animacy, human", .45, .37, .077, 14.77, SMALL_P, .29),
    "so do all models, B most": row_of("animacy, B", .36, .33, .029, 9.41, SMALL_P, .18),
    "then C": row_of("animacy, C", .34, .31, .025, 8.94, SMALL_P, .17),
    "A least": row_of("animacy, A", .33, .30, .021, 7.94, SMALL_P, .16),
    "B's animate density is above A's and C's": {
        "animacy, animate: B - A: t": 40.14, "animacy, animate: B - A: d": .78,
        "animacy, animate: B - C: t": 42.34, "animacy, animate: B - C: d": .83,
        "animacy, animate: B - A: p": SMALL_P, "animacy, animate: B - C: p": SMALL_P},
    "3,068 images have small and large objects": {"size: images": 3068},
    "people attend more to small objects": row_of("size, human", .37, .34, .03, 7.30, SMALL_P, .13),
    "A to large ones": row_of("size, A", .26, .27, -.007, -3.45, SMALL_P, -.06),
    "C to neither": row_of("size, C", .28, .28, -.0004, -.21, .836, "|d| < 0.01"),
    "B to small ones": row_of("size, B", .30, .29, .009, 3.96, SMALL_P, .07),
    "B's small-object density is above A's and C's": {
        "size, small: B - A: t": 62.06, "size, small: B - A: d": 1.12, "size, small: B - A: p": SMALL_P,
        "size, small: B - C: t": 78.22, "size, small: B - C: d": 1.41, "size, small: B - C: p": SMALL_P},
    "5,000 images": {"sparsity: images": 5000},
    "B's entropy is below A's": {
        "sparsity, B: entropy": 15.38, "sparsity, B: SD": .12, "sparsity, A: entropy": 15.42,
        "sparsity, A: SD": .09, "sparsity, entropy: B - A: mean difference": -.043,
        "sparsity, entropy: B - A: t": -61.9, "sparsity, entropy: B - A: p": SMALL_P,
        "sparsity, entropy: B - A: d": -.88},
    "C's is below A's": {"sparsity, entropy: C - A: mean difference": -.012, "sparsity, entropy: C - A: d": -.31},
    "people's entropy": {"sparsity, human: entropy": 14.99, "sparsity, human: SD": .17},
    "every model's is above people's": {
        f"sparsity, entropy: {k} - human: {n}": said for k in "ABC" for n, said in (("p", SMALL_P), ("d", "> 2.6"))},
    "B's is below A's and C's at every level of clutter": {
        "sparsity, entropy: B - C: mean difference": "< 0", "sparsity, entropy: B - C: p": "significant",
        "sparsity: levels of clutter with B below A": "all",
        "sparsity: levels of clutter with B below C": "all"}}


def test_every_claim_of_the_paper_has_a_row(finished):
    """Without options but --model-b and --model-c."""
    rows = {row["name"]: row for row in json.loads((finished / "results.json").read_text())["headline"]}
    for claim, expected in CLAIMS.items():
        assert {name: rows[name]["paper"] for name in expected} == expected, claim
    on_screen = [name for name in rows if re.fullmatch(E.ON_SCREEN, name)]
    assert len(on_screen) == 25 and "sparsity, entropy: B - human: d" in on_screen


def test_the_interval_of_d_decides_whether_it_is_above_2_6():
    rng = np.random.default_rng(2)
    human = rng.normal(0, .01, 120)
    sources = {k: {"entropy": human + rng.normal(1, sd, 120)} for k, sd in zip("ABC", (1, .38, .1))}
    table = E.by_source(arrays_of({"human": {"entropy": human}} | sources))
    rows = {row["name"]: row for row in E.evaluate(E.claims(list(table)), table)}
    found = {k: rows[f"sparsity, entropy: {k} - human: d"] for k in "ABC"}
    assert [row["verdict"] for row in found.values()] == ["differs", "undecided", "agrees"]
    exact = scipy.stats.nct  # whose 2.5 and 97.5 % points meet t at the ends of the exact interval
    for row in found.values():
        t, ncp = row["ours"] * 120**.5, np.array(row["ci"]) * 120**.5
        assert exact.sf(t, 119, ncp[0]) == pytest.approx(.025, abs=.008)
        assert exact.cdf(t, 119, ncp[1]) == pytest.approx(.025, abs=.008)


def test_levels_of_clutter_are_those_that_two_images_have():
    entropies = {"A": [5.] * 9, "B": [4., 4, 6, 6, 1, 1, 6, 6, 1], "C": [9.] * 9}
    arrays = arrays_of({"human": {}} | {k: {"entropy": v} for k, v in entropies.items()},
                       objects=[1., 1, 2, 2, 3, math.nan, 4, 4, 4])  # of 4 objects the mean is below, not the median
    table = E.by_source(arrays)
    rows = {row["name"]: row["ours"] for row in E.evaluate(E.claims(list(table)), table)}
    assert rows["sparsity: levels of clutter with B below A"] == "2 of 3"
    assert rows["sparsity: levels of clutter with B below C"] == "3 of 3"


# ------------------------------------------------------------------------------------------------ runs

def test_maps_of_any_size_and_format_are_read_and_bad_ones_are_missing(tmp_path):
    ramp = np.tile(np.linspace(0, 200, 64), (48, 1))
    np.save(tmp_path / "a.npy", ramp)
    Image.fromarray(ramp.round().astype(np.uint8)).save(tmp_path / "b.png")
    np.save(tmp_path / "nan.npy", np.full((4, 4), np.nan))
    np.save(tmp_path / "rank3.npy", np.ones((4, 4, 3)))
    (tmp_path / "torn.png").write_bytes((tmp_path / "b.png").read_bytes()[:60])
    a, b = (E.other_map(tmp_path / name) for name in ("a.npy", "b.png"))
    assert a.shape == (224, 224) and a.min() == 0 and 199 < a.max() <= 200 and (a - b).abs().max() < 1
    assert (a[:, 1:] >= a[:, :-1]).all() and read_map(tmp_path / "a.npy").shape == (48, 64)
    for bad in ("nan.npy", "rank3.npy", "torn.png", "none.npy"):
        assert E.other_map(tmp_path / bad).isnan().all()
        with pytest.raises(InputError, match=bad):
            read_map(tmp_path / bad)
    np.save(tmp_path / "two.npy", np.array([[3., 4]]))  # bilinear between the centres of its two pixels
    between = ((np.arange(224) + .5) / 112 - .5).clip(0, 1)
    np.testing.assert_allclose(E.other_map(tmp_path / "two.npy"), np.tile(between, (224, 1)), atol=1e-6)
    np.save(tmp_path / "flat.npy", np.full((3, 5), 7.))
    assert (E.other_map(tmp_path / "flat.npy") == 0).all()  # uniform, by density() and entropy()


def test_one_map_has_one_entropy_in_every_format(tmp_path):
    """8 bits cost a hundredth of a bit, no other format anything."""
    rows, cols = np.mgrid[:48, :64]
    values = (1.2 + np.cos(rows / 10) * np.cos(cols / 14)) / 2.2
    counts16 = (values * 65_535).round().astype(np.uint16)
    np.save(tmp_path / "a.npy", values)
    Image.fromarray((values * 255).round().astype(np.uint8)).save(tmp_path / "8.png")
    Image.fromarray(counts16).save(tmp_path / "16.png")
    Image.fromarray(counts16).save(tmp_path / "16.tif")
    Image.fromarray(values.astype(np.float32)).save(tmp_path / "float.tif")
    Image.fromarray((values * 255).round().astype(np.uint8)).convert("RGBA").save(tmp_path / "grey.png")
    entropies = {p.name: float(E.entropy(E.other_map(p)[None])) for p in tmp_path.iterdir()}
    assert len(entropies) == 6 and 12 < entropies["a.npy"] < 15.5
    for name, value in entropies.items():
        assert value == pytest.approx(entropies["a.npy"], abs=.01), name
    for name in ("16.png", "16.tif", "float.tif"):
        assert entropies[name] == pytest.approx(entropies["a.npy"], abs=1e-4), name


def test_maps_in_colours_are_refused_before_anything_is_measured(worlds, tuned, tmp_path):
    maps = tmp_path / "jet"
    maps.mkdir()
    for path in (worlds[True] / "salicon" / "images").iterdir():
        Image.new("RGB", (9, 9), (250, 3, 9)).save(maps / f"{path.stem}.png")
    with pytest.raises(InputError, match="jet.*a model's map"):
        run(*study(worlds, tuned, "--maps", maps, "--out", tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_maps_are_found_by_coco_s_number_whatever_lies_beside_them(worlds, tmp_path):
    salicon = worlds[True] / "salicon"
    names = [image.name for image in E.load_data(salicon, None, 2, [])[0]]
    np.save(tmp_path / f"{Path(names[0]).stem}.npy", np.eye(4))
    np.save(tmp_path / f"{plain_name(names[1])}.npy", np.eye(4))
    for name in names:
        (tmp_path / f"{Path(name).stem}.txt").write_text("a note")
        (tmp_path / f"._{Path(name).stem}.npy").write_bytes(b"macOS")
    *_, maps = E.load_data(salicon, None, 2, [tmp_path])
    assert [path.name for path in maps[tmp_path.name]] == [f"{Path(names[0]).stem}.npy",
                                                           f"{plain_name(names[1])}.npy"]


def study(worlds, tuned, *more) -> list:
    return ["--data", worlds[True], "--model", "demo_sl4", "--model-b", tuned["B"], "--model-c", tuned["C"],
            "--limit", 10, "--batch-size", 4, "--workers", 0, "--device", "cpu", *more]


@pytest.fixture(scope="module")
def finished(worlds, tuned, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    run(*study(worlds, tuned, "--out", out))
    return out


@pytest.mark.parametrize("device", ["mps"])  # which is cuda and more: no float64
def test_the_study_is_computed_on_one_device(worlds, tuned, tmp_path, no_figures, device):
    with one_device(device):
        run(*study(worlds, tuned, "--device", device, "--out", tmp_path / "out"))


def test_a_run_writes_rows_results_and_figures(worlds, tuned, finished):
    rows, results = read_csv(finished / "per_image.csv"), json.loads((finished / "results.json").read_text())
    assert list(rows[0])[:2] == ["image", "condition"] and len(rows) == 60
    assert {r["condition"] for r in rows} == {"A", "B", "C", "human", "centre", "others"} and results["not_run"] == []
    assert {f"fig_3{k}.{e}" for k in "ABC" for e in ("png", "pdf")} <= {p.name for p in finished.iterdir()}
    assert {h["name"]: h["ours"] for h in results["headline"]}["animacy: images"] == 10
    a, b = ([r["entropy"] for r in rows if r["condition"] == k] for k in "AB")
    assert a != b  # B's attention weights were used
    contrasts = {}
    for of, first, second in (("animacy", "animate", "inanimate"), ("size", "small", "large")):
        bias = {k: np.array([r[first] - r[second] for r in rows if r["condition"] == k], float)
                for k in ("human", "A", "B", "C", "centre", "others")}
        for one, other in itertools.combinations(bias, 2):
            d = bias[other] - bias[one]  # the later source less the earlier one
            contrasts[f"bias_{of}: {other} - {one}"] = d[np.isfinite(d)]
    assert len(contrasts) == len(results["tests"]) == 30
    for test in results["tests"]:
        d = contrasts[test["contrast"]]
        assert test["test"] == "paired t" and test["mean"] == pytest.approx(d.mean()) and test["df"] == len(d) - 1
        assert test["t"] == pytest.approx(scipy.stats.ttest_1samp(d, 0).statistic)


def test_entropy_is_drawn_by_the_number_of_objects():
    """A number of objects that one image alone has, and an image that COCO lacks, are not drawn."""
    arrays = arrays_of({"human": {"entropy": [1., 2., 4., 5., 6., 8.]},
                        "A": {"entropy": [2., 3., 5., 6., 7., 8.]}},
                       objects=[0., 6., 6., 0., 99., math.nan])
    _, ((ax,),) = figure_grid(1, 1)
    E.draw_clutter(ax, E.by_source(arrays), ["white", "red"])
    line = ax.lines[0]
    assert line.get_xdata().tolist() == [0, 6] and line.get_ydata().tolist() == [3, 3]


def test_a_run_stopped_between_batches_ends_as_an_undisturbed_one(worlds, tuned, finished, tmp_path,
                                                                  no_figures, monkeypatch):
    stop = interrupted(E.measure, 2)
    monkeypatch.setattr(E, "measure", stop)
    with pytest.raises(KeyboardInterrupt):
        run(*study(worlds, tuned, "--out", tmp_path / "out"))
    with pytest.raises(InputError, match="--resume"):
        run(*study(worlds, tuned, "--out", tmp_path / "out"))
    with pytest.raises(InputError, match="other arguments"):
        run(*study(worlds, tuned, "--resume", "--limit", 9, "--out", tmp_path / "out"))
    run(*study(worlds, tuned, "--resume", "--out", tmp_path / "out"))
    assert stop.calls == 4  # 10 images in batches of 4, one of them before the stop
    assert (tmp_path / "out" / "per_image.csv").read_bytes() == (finished / "per_image.csv").read_bytes()


def test_a_finished_run_stays_whole_after_wrong_arguments(worlds, tuned, finished, tmp_path):
    kept = {p: p.read_bytes() for p in finished.iterdir()}
    for more, says in (("--limit 3", "other arguments"), ("--model vgg", "no model vgg"),
                       ("--maps no", "--maps no"),
                       ("--data nowhere", "no such folder"), ("--coco nowhere", "no such folder"),
                       ("--model-b no.pth", "no such weight file"),
                       ("--plot-only --seed 3", "other arguments")):
        with pytest.raises(InputError, match=says):
            run(*study(worlds, tuned, *more.split(), "--out", finished))
    another = {**tuned, "B": shutil.copy(tuned["C"], tmp_path / tuned["B"].name)}
    with pytest.raises(InputError, match="other arguments"):
        run(*study(worlds, another, "--out", finished))
    assert {p: p.read_bytes() for p in finished.iterdir()} == kept


def test_weights_that_changed_at_the_same_path_are_not_mixed(worlds, tuned, tmp_path, no_figures):
    mine = {**tuned, "B": tmp_path / "b.pth"}
    shutil.copy(tuned["B"], mine["B"])
    run(*study(worlds, mine, "--limit", 3, "--out", tmp_path / "out"))
    shutil.copy(tuned["C"], mine["B"])
    with pytest.raises(InputError, match="hashes"):
        run(*study(worlds, mine, "--limit", 3, "--out", tmp_path / "out"))


def test_bare_command_runs_the_demo_and_redraws(tmp_path, capsys):
    job = [ROOT / "exp03_biases.py", "--limit", 4, "--workers", 0, "--device", "cpu"]
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


# ------------------------------------------------------------------------------------------------ bad input

def test_a_world_without_annotations_has_entropies_and_says_what_was_not_run(worlds, tmp_path):
    results = run("--salicon", worlds[True] / "salicon", *FAST, "--limit", 5, "--out", tmp_path / "out")
    assert [line for line in results["not_run"] if "--coco" in line]
    names = [h["name"] for h in results["headline"] if h["ours"]]
    assert "sparsity, human: entropy" in names and not any("animate" in name for name in names)
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


def test_unreadable_and_unseen_images_are_listed_and_missing_maps_counted(copied, tmp_path, no_figures):
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
    results = run("--data", copied, *FAST, "--maps", tmp_path / "mine", "--out", tmp_path / "out")
    left_out = {reason: some for reason, some in results["left_out"].items() if some}
    assert left_out == {"val, missing": [names[3]], "val, no fixations": [names[1]], "unreadable": [names[0]],
                        "no map of mine": [names[4]]}
    assert results["left_out"]["unreadable"] == [names[0]]
    uniform = [r for r in read_csv(tmp_path / "out" / "per_image.csv") if r["condition"] == "mine"
               and r["image"] == names[2]]
    assert uniform[0]["animate"] == UNIFORM and uniform[0]["entropy"] == pytest.approx(math.log2(50_176))


def test_names_of_2014_and_2017_meet(copied):
    assert plain_name("COCO_val2014_000000200001.jpg") == plain_name("000000200001.jpg") == "000000200001"
    _, scenes = E.load_scenes(copied / "coco", ["000000200001.jpg", "COCO_val2014_000000200001.jpg", "x.jpg"])
    assert scenes[0] is scenes[1] and scenes[0]["objects"] > 1
    assert scenes[2] is E.NO_SCENE and math.isnan(scenes[2]["objects"])


@pytest.mark.parametrize("damage, said", [
    (lambda d: d["annotations"][0].update(segmentation={"size": [2, 2], "counts": [4]}), "annotation"),
    (lambda d: d["annotations"][0].pop("segmentation"), "instances_val2014.json, annotation"),
    (lambda d: d["annotations"][0].pop("area"), "area"),
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
        run("--data", copied, *FAST, "--out", tmp_path / "out")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("argv, said", [
    ("--data /nowhere", "no such folder"), ("--data W --model demo_sl4 --maps /nowhere", "--maps"),
    ("--data W --model demo_sl4 --maps A", "--maps"),
    ("--data W --model demo_sl4 --maps D --maps D", "--maps"),
    ("--salicon S --coco /nowhere", "--coco /nowhere: no such folder"), ("--coco C", "--salicon"),
    ("--plot-only", "--plot-only"), ("--salicon /nowhere", "no such folder"),
    ("--salicon S --coco A", "instances_"),
    ("--data W --model demo_sl4 --model-b no.pth --limit 2", "no such weight file")])
def test_wrong_arguments_end_in_one_sentence(argv, said, worlds, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "AD":
        (tmp_path / name).mkdir()
    argv = argv.replace("S ", f"{worlds[True]}/salicon ").replace("W ", f"{worlds[True]} ")
    argv = argv.replace(" C", f" {worlds[True]}/coco")
    with pytest.raises(InputError, match=said):
        E.main([*argv.split(), "--workers", "0", "--device", "cpu", "--out", str(tmp_path / "out")])


@pytest.mark.parametrize("rename", [str.title, lambda name: f"n{len(name)}"])
def test_categories_of_other_names_are_no_inanimate_ones(copied, rename):
    """Every object would count as inanimate: capitals, and another data set's labels."""
    file = copied / "coco" / "annotations" / "instances_val2014.json"
    tree = json.loads(file.read_text())
    tree["categories"] = [category | {"name": rename(category["name"])} for category in tree["categories"]]
    file.write_text(json.dumps(tree))
    with pytest.raises(InputError, match=f"{file}.*{rename('person')}.*none is called as COCO's people"):
        E.load_data(copied / "salicon", copied / "coco", None, [])


def test_salicons_format_on_cocos_own_pictures_gives_the_same_gaze_and_masks(copied):
    """The same points on pictures of half the size: COCO's images are of any size."""
    before = E.load_data(copied / "salicon", copied / "coco", None, [])
    file, coco = copied / "salicon" / "fixations_val2014.json", copied / "coco/annotations/instances_val2014.json"
    tree, annotations = json.loads(file.read_text()), json.loads(coco.read_text())
    for image in tree["images"]:
        path = copied / "salicon" / "images" / image["file_name"]
        Image.open(path).resize((320, 240)).save(path)
    for image in tree["images"] + annotations["images"]:
        image |= dict(height=240, width=320)
    for a in tree["annotations"]:
        a["fixations"] = [[(row + 1) // 2, (col + 1) // 2] for row, col in a["fixations"]]
    annotations["annotations"] = [a for a in annotations["annotations"] if isinstance(a["segmentation"], list)]
    for a in annotations["annotations"]:
        a["segmentation"] = [[v / 2 for v in polygon] for polygon in a["segmentation"]]
    file.write_text(json.dumps(tree))
    coco.write_text(json.dumps(annotations))
    images, _, _, scenes, _ = E.load_data(copied / "salicon", copied / "coco", None, [])
    for image, old, scene in zip(images, before[0], scenes):
        assert image.size == (240, 320) == (scene["height"], scene["width"])
        for (rows, cols), (old_rows, old_cols) in zip(image.observers, old.observers):
            assert max(abs(rows - old_rows).max(initial=0), abs(cols - old_cols).max(initial=0)) <= 1


def as_freeview(copied: Path, folder: Path, shrink: int) -> None:
    """The same gaze as COCO-FreeView has it, and COCO of 2017 with pictures of 480 x 640 / shrink px."""
    gaze = json.loads((copied / "salicon" / "fixations_val2014.json").read_text())
    coco = json.loads((copied / "coco" / "annotations" / "instances_val2014.json").read_text())
    names = {image["id"]: f"{plain_name(image['file_name'])}.jpg" for image in gaze["images"]}
    scale, left = 1050 / 480, (1680 - 640 * 1050 / 480) / 2  # of the display, between two bars
    records = []
    for a in gaze["annotations"]:
        points = np.array(a["fixations"], float).reshape(-1, 2) - .5  # centres of pixels from 1
        records.append(dict(name=names[a["image_id"]], split="valid", subject=a["worker_id"],
                            X=[840., *(left + points[:, 1] * scale)], Y=[525., *(points[:, 0] * scale)]))
    (folder / "gaze").mkdir(parents=True)
    (folder / "gaze" / "COCOFreeView_fixations_trainval.json").write_text(json.dumps(records))
    (folder / "coco" / "val2017").mkdir(parents=True)
    (folder / "coco" / "annotations").mkdir()
    for image in gaze["images"]:
        picture = Image.open(copied / "salicon" / "images" / image["file_name"])
        picture.resize((640 // shrink, 480 // shrink)).save(folder / "coco" / "val2017" / names[image["id"]])
    for image in coco["images"]:
        image |= dict(height=480 // shrink, width=640 // shrink,
                      file_name=f"{plain_name(image['file_name'])}.jpg")
    coco["annotations"] = [a for a in coco["annotations"] if isinstance(a["segmentation"], list)]
    for a in coco["annotations"]:
        a["segmentation"] = [[v / shrink for v in polygon] for polygon in a["segmentation"]]
    (folder / "coco" / "annotations" / "instances_val2017.json").write_text(json.dumps(coco))


def test_coco_s_pictures_of_2017_and_of_any_size_give_the_same_gaze_and_masks(copied, tmp_path):
    as_freeview(copied, tmp_path / "f", 2)
    root = tmp_path / "f"
    theirs, left_out, coco, scenes, _ = E.load_data(root / "gaze", root / "coco", None, [])
    ours = {plain_name(image.name): image for image in E.load_data(copied / "salicon", None, None, [])[0]}
    assert len(theirs) == 5 and not any(left_out.values())
    for image, scene in zip(theirs, scenes):
        assert image.path.parent.name == "val2017" and image.size == (240, 320)
        assert (scene["height"], scene["width"]) == (240, 320) and scene["anns"]
        mine, other = (np.concatenate([np.stack(points, 1) for points in some.observers]).astype(int)
                       for some in (ours[plain_name(image.name)], image))
        assert mine.shape == other.shape and np.abs(mine - other).max() <= 1
        assert (E.paint_masks(scene["anns"], coco, 240, 320) >= 0).any()


def test_pictures_of_another_shape_than_coco_s_are_named(copied, tmp_path):
    """COCO-FreeView's pictures as distributed have the display's bars in them; COCO's masks have not."""
    as_freeview(copied, tmp_path / "f", 2)
    (tmp_path / "f" / "gaze" / "images").mkdir()
    for path in (tmp_path / "f" / "coco" / "val2017").iterdir():
        Image.new("RGB", (1680, 1050)).save(tmp_path / "f" / "gaze" / "images" / path.name)
    with pytest.raises(InputError, match=r"\d{12}.jpg is 1050 x 1680 px, but 240 x 320 in COCO") as error:
        run("--salicon", tmp_path / "f" / "gaze", "--coco", tmp_path / "f" / "coco", *FAST,
            "--out", tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_images_that_coco_lacks_are_listed(copied, tmp_path, no_figures):
    file = copied / "coco" / "annotations" / "instances_val2014.json"
    data = json.loads(file.read_text())
    gone = data["images"].pop(0)
    data["annotations"] = [a for a in data["annotations"] if a["image_id"] != gone["id"]]
    file.write_text(json.dumps(data))
    results = run("--data", copied, *FAST, "--out", tmp_path / "out")
    assert results["left_out"]["of densities, not in COCO's annotations"] == [gone["file_name"]]
    data["images"] = [image | {"file_name": f"x{image['file_name']}"} for image in data["images"]]
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match="none with fixations"):
        run("--data", copied, *FAST, "--out", tmp_path / "out2")


def test_points_outside_an_image_name_it(copied, tmp_path):
    file = copied / "salicon" / "fixations_val2014.json"
    data = json.loads(file.read_text())
    annotation = next(a for a in data["annotations"] if a["fixations"])
    annotation["fixations"][0] = [481, 3]
    file.write_text(json.dumps(data))
    with pytest.raises(InputError, match=f"image {annotation['image_id']}, worker {annotation['worker_id']}"):
        run("--data", copied, *FAST, "--out", tmp_path / "out")


def test_an_object_of_two_overlapping_annotation_files_counts_once(copied):
    folder, names = copied / "coco" / "annotations", ["000000200001.jpg"]
    one = E.load_scenes(copied / "coco", names)[1][0]["objects"]
    shutil.copy(folder / "instances_val2014.json", folder / "instances_a.json")
    (folder / "instances_val2014.json").rename(folder / "instances_b.json")
    assert len(coco_files(copied / "coco", "val")) == 2
    assert E.load_scenes(copied / "coco", names)[1][0]["objects"] == one
