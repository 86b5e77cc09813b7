"""The demo world: the same bytes from the same seed, files that other readers understand, and planted truth
that a direct count finds when it is there and does not find when it is not."""
import csv
import hashlib
import json
import os
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import demo
from demo import CLASSES, EXTRA, InputError, demo_world
from demo_scenes import render_scene

ANIMATE = {v[1] for v in {**CLASSES, **EXTRA}.values() if v[3]}


def tree_hash(root: Path) -> dict:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(root.rglob("*")) if p.is_file()}


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def worlds(tmp_path_factory):
    """The world with and without planted preferences, small."""
    base, patch = tmp_path_factory.mktemp("world"), pytest.MonkeyPatch()
    for name, value in dict(CLIPS=2, FRAMES=48, VIEWERS={"adult": 8, "child": 8}).items():
        patch.setattr(demo, name, value)
    sizes = dict(n_train=24, n_val=12, n_salicon=(2, 24), n_objectnet=1)
    yield {planted: demo_world(base, planted=planted, **sizes,
                               parts=demo.PARTS if planted else ("salicon", "videos", "objects"))
           for planted in (True, False)}
    patch.undo()


def test_scene_is_a_pure_function_of_seed_and_index():
    first = render_scene(1, 5)
    render_scene(2, 9)
    again = render_scene(1, 5)
    assert (first.image == again.image).all() and (first.ids == again.ids).all()
    assert (first.image != render_scene(1, 17).image).mean() > .5


def test_main_object_is_the_label_and_large_enough_to_see():
    for index in range(24):
        thing = render_scene(0, index).objects[0]
        assert thing["name"] == list(CLASSES)[index % 12]
        assert .03 < thing["mask"].mean() < .6


def test_background_does_not_depend_on_the_class():
    """Mean colour outside the objects: no class differs from the others by more than 4 standard errors."""
    scenes = (render_scene(5, i) for i in range(144))
    colours = np.array([scene.image[scene.ids == 0].mean(0) for scene in scenes])
    for k in range(12):
        mine, rest = colours[k::12], np.delete(colours, np.s_[k::12], 0)
        error = np.sqrt(mine.var(0, ddof=1) / len(mine) + rest.var(0, ddof=1) / len(rest))
        assert (abs(mine.mean(0) - rest.mean(0)) < 4 * error).all(), list(CLASSES)[k]


def test_imagenet_has_the_same_bytes_with_one_and_two_workers(worlds, tmp_path):
    folder = demo.write_imagenet(tmp_path, "train", 24, demo.SEED_OF["train"], workers=2)
    assert tree_hash(folder) == tree_hash(worlds[True] / "imagenet" / "train")
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {v[0] for v in CLASSES.values()}
    picture = Image.open(next(folder.rglob("*.JPEG")))
    assert picture.size == (224, 224) and picture.mode == "RGB"


def test_second_call_leaves_finished_parts_alone(worlds):
    before = {p: p.stat().st_mtime_ns for p in worlds[True].rglob("*")}
    demo_world(worlds[True].parent, n_train=24, n_val=12, n_salicon=(2, 24), n_objectnet=1)
    assert before == {p: p.stat().st_mtime_ns for p in worlds[True].rglob("*")}


def test_half_written_folder_is_never_taken_for_the_data(tmp_path, monkeypatch):
    save = demo.save_scene

    def interrupted(index, **where):
        if index == 7:
            raise KeyboardInterrupt
        save(index, **where)
    monkeypatch.setattr(demo, "save_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.write_imagenet(tmp_path, "val", 12, 0)
    assert not (tmp_path / "val").exists()
    monkeypatch.setattr(demo, "save_scene", save)
    demo.write_imagenet(tmp_path, "val", 12, 0)
    assert len(list(tmp_path.rglob("*.JPEG"))) == 12 and os.listdir(tmp_path) == ["val"]


def test_foreign_folder_and_other_counts_are_refused(tmp_path, worlds):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="not finished by demo.py"):
        demo.write_imagenet(tmp_path, "val", 12, 0)
    assert (tmp_path / "val" / "mine.txt").read_text() == "keep"
    with pytest.raises(InputError, match="expected"):
        demo.write_imagenet(worlds[True] / "imagenet", "val", 36, 0)
    with pytest.raises(InputError, match="unknown part"):
        demo_world(tmp_path, parts=("salicom",))


def test_objectnet_chain_of_mappings_ends_at_the_right_class(worlds):
    root = worlds[True] / "objectnet"
    labels, to_names, to_line = (json.loads((root / "mappings" / f"{name}.json").read_text()) for name in (
        "folder_to_objectnet_label", "objectnet_to_imagenet_1k", "pytorch_to_imagenet_2012_id"))
    lines = (root / "mappings" / "imagenet_to_label_2012_v2").read_text().splitlines()
    assert len(lines) == len(to_line) == 1000 and len(set(to_line.values())) == 1000
    index_of = {lines[line]: int(index) for index, line in to_line.items()}
    found = {folder.name: [index_of[name] for name in to_names[labels[folder.name]].split("; ")]
             for folder in (root / "images").iterdir() if labels[folder.name] in to_names}
    assert found["zebra"] == [340] and found["cup"] == [968, 504] and len(found) == 12
    assert len(list((root / "images").iterdir())) == 16
    picture = np.asarray(Image.open(next((root / "images").rglob("*.png"))))
    red = (picture == (255, 0, 0)).all(2)
    assert red[:2].all() and red[:, -2:].all() and not red[2:-2, 2:-2].all(1).any()


def coco_and_gaze(root: Path) -> tuple[COCO, dict]:
    gaze = json.loads((root / "salicon" / "fixations_val2014.json").read_text())
    return COCO(str(root / "coco" / "annotations" / "instances_val2014.json")), gaze


def test_coco_annotations_decode_and_areas_agree(worlds):
    coco, _ = coco_and_gaze(worlds[True])
    assert len(coco.cats) == 80 and coco.cats[90]["name"] == "toothbrush"
    forms = set()
    for a in coco.anns.values():
        mask = coco.annToMask(a)
        assert mask.shape == (480, 640) and abs(mask.sum() - a["area"]) <= 1
        forms.add("crowd" if a["iscrowd"] else type(a["segmentation"]).__name__)
        x, y, w, h = a["bbox"]
        rows, cols = np.nonzero(mask)
        assert abs(cols.min() - x) <= 1 and abs(np.ptp(rows) + 1 - h) <= 1
    assert forms == {"list", "dict", "crowd"}


def test_annotated_areas_agree_with_what_is_drawn():
    """Outlines run between pixels: within 4 % of the visible pixels, or 12 px of a small object."""
    for index in range(3):
        scene = demo.crowded_scene(4_000, index)
        visible = [int((scene.ids == k).sum()) for k in range(1, len(scene.objects) + 1)]
        areas = [a["area"] for a in demo.annotate(scene, 1, 1)]
        assert np.allclose(areas, [v for v in visible if v >= 80], rtol=.04, atol=12)


def test_mask_with_a_hole_is_stored_as_rle():
    ring = np.zeros((40, 50), bool)
    ring[5:35, 5:45] = True
    polygon, = demo.segmentation(ring, crowd=False, rle=False)
    assert min(polygon[::2]) == pytest.approx(5, abs=.5) and max(polygon[::2]) == pytest.approx(45, abs=.5)
    ring[15:25, 15:35] = False
    assert coco_mask.area(demo.segmentation(ring, crowd=False, rle=False)) == ring.sum() == 1000


def test_salicon_json_has_the_official_structure(worlds):
    _, gaze = coco_and_gaze(worlds[True])
    assert gaze["type"] == "fixations"
    assert set(gaze["annotations"][0]) >= {"image_id", "worker_id", "fixations"}
    points = np.concatenate([a["fixations"] for a in gaze["annotations"]])
    assert points.min() >= 1 and points[:, 0].max() <= 480 and 480 < points[:, 1].max() <= 640
    for image in gaze["images"]:
        assert Image.open(worlds[True] / "salicon" / "images" / image["file_name"]).size == (640, 480)
    assert len(gaze["annotations"]) == demo.WORKERS * len(gaze["images"])


def log_ratios(root: Path, first, second) -> np.ndarray:
    """log of (samples per pixel on `first` objects / on `second`), one value an image that has both."""
    coco, gaze = coco_and_gaze(root)
    values = []
    for image in gaze["images"]:
        mine = [a["fixations"] for a in gaze["annotations"] if a["image_id"] == image["id"]]
        points = np.concatenate(mine) - 1
        count, area = np.zeros(2), np.zeros(2)
        for a in coco.imgToAnns[image["id"]]:
            which = 0 if first(a) else 1 if second(a) else None
            if which is not None:
                mask = coco.annToMask(a)
                count[which] += mask[points[:, 0], points[:, 1]].sum()
                area[which] += mask.sum()
        if (area > 0).all():
            density = (count + .5) / area
            values.append(np.log(density[0] / density[1]))
    return np.array(values)


@pytest.mark.parametrize("kind", ["animacy", "size"])
def test_planted_preference_is_there_and_absent_without_planting(worlds, kind):
    first, second = {"animacy": (lambda a: a["category_id"] in ANIMATE, lambda a: True),
                     "size": (lambda a: a["area"] < demo.SMALL, lambda a: a["area"] >= demo.LARGE)}[kind]
    planted, absent = (log_ratios(worlds[p], first, second) for p in (True, False))
    error = planted.std(ddof=1) / np.sqrt(len(planted))
    assert planted.mean() - 2.5 * error > 0
    # the + .5 of a small object with no sample tilts the null upwards by up to .1
    assert abs(absent.mean()) < 3 * absent.std(ddof=1) / np.sqrt(len(absent)) + .1


def distance_to(root: Path, part: str, group: str) -> float:
    """Median distance (px) of a group's gaze to the nearest key point of a kind, first clip."""
    points = rows_of(root / "videos" / "keypoints" / "clip01.csv")
    keys = np.array([(r["frame"], r["x_px"], r["y_px"]) for r in points if r["part"] == part], float)
    distances = []
    for r in rows_of(root / "videos" / "gaze" / "clip01.csv"):
        if r["viewer"].startswith(group) and r["x_px"]:
            here = keys[keys[:, 0] == int(float(r["t_s"]) * demo.FPS)][:, 1:]
            distances.append(np.linalg.norm(here - (float(r["x_px"]), float(r["y_px"])), axis=1).min())
    return float(np.median(distances))


def test_adults_follow_the_eyes_and_nobody_does_without_planting(worlds):
    adult, child, absent = (distance_to(worlds[p], "eyes", g) for p, g in
                            ((True, "adult"), (True, "child"), (False, "adult")))
    assert adult < 20 and child > adult + 8 and absent > 60


def test_clips_decode_and_masks_fit_the_key_points(worlds):
    root = worlds[True] / "videos"
    with av.open(str(root / "clips" / "clip01.mp4")) as file:
        frames = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)]
        assert file.streams.video[0].average_rate == demo.FPS
    assert len(frames) == demo.FRAMES and frames[0].shape == (240, 320, 3)
    masks = np.load(root / "masks" / "clip01.npz")
    assert masks["face"].shape == (demo.FRAMES, 240, 320)
    assert not (masks["face"] & masks["body"]).any() and not (masks["body"] & masks["ground"]).any()
    for r in rows_of(root / "keypoints" / "clip01.csv"):
        if r["part"] in ("eyes", "mouth"):
            assert masks["face"][int(r["frame"]), int(float(r["y_px"])), int(float(r["x_px"]))]
    assert abs(np.diff(np.stack(frames).astype(float), axis=0)).mean() > .5  # something moves
    gaze = rows_of(root / "gaze" / "clip01.csv")
    assert any(r["x_px"] == "" for r in gaze)
    assert {r["group"] for r in rows_of(root / "viewers.csv")} == {"adult", "child"}


def test_fixations_gather_on_the_parts_of_objects_only_when_planted(worlds):
    """Spread of a picture's fixations about its two most fixated places, against uniform observers."""
    peak = {}
    for planted, root in worlds.items():
        shares = []
        rows = rows_of(root / "objects" / "fixations.csv")
        for name in {r["image"] for r in rows}:
            xy = np.array([(float(r["x_px"]), float(r["y_px"])) for r in rows if r["image"] == name])
            cells = np.histogram2d(*xy.T, bins=14, range=[(0, 448), (0, 448)])[0].ravel()
            shares.append(np.sort(cells)[-12:].sum() / len(xy))
        peak[planted] = np.mean(shares)
        assert len({r["participant"] for r in rows}) == 30 and len({r["image"] for r in rows}) == 20
    assert peak[True] > .7 and peak[False] < .25


def test_show_writes_the_contact_sheet(worlds, tmp_path):
    assert Image.open(demo.contact_sheet(worlds[True], tmp_path / "sheet.png")).width > 1000
