"""The demo world: the same bytes from the same seed, files that other readers understand, and planted truth
that a direct count finds when it is there and does not find when it is not."""
import csv
import hashlib
import json
import os
import re
import shlex
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

import demo
from common import InputError
from demo import CLASSES, demo_world, popout_displays, render_scene, world
from demo.__main__ import main
from processes import command

ROOT = Path(__file__).resolve().parents[1]
ANIMATE = {kind.coco for kind in world.KINDS.values() if kind.animate}


def tree_hash(root: Path) -> dict:
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(root.rglob("*")) if p.is_file()}


def rows_of(path: Path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def worlds() -> dict[bool, Path]:
    """The demo world of all tests, and what there is of it without planted preferences, of videos one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(world, "CLIPS", 1)
        absent = demo.demo_world(planted=False, parts=("salicon", "videos", "objects"))
    return {True: demo.demo_world(), False: absent}


def test_scene_is_a_pure_function_of_seed_and_index():
    first = render_scene(1, 5)
    render_scene(2, 9)
    again = render_scene(1, 5)
    assert (first.image == again.image).all() and (first.ids == again.ids).all()
    assert (first.image != render_scene(1, 17).image).mean() > .5


def test_main_object_is_the_label_and_large_enough_to_see():
    for index in range(24):
        scene = render_scene(0, index)
        assert scene.objects[0]["name"] == list(CLASSES)[index % 12]
        assert .03 < (scene.ids == 1).mean() < .6


def test_background_does_not_depend_on_the_class():
    """Mean colour outside the objects: no class differs from the others by more than 4 standard errors."""
    scenes = (render_scene(5, i) for i in range(144))
    colours = np.array([scene.image[scene.ids == 0].mean(0) for scene in scenes])
    for k in range(12):
        mine, rest = colours[k::12], np.delete(colours, np.s_[k::12], 0)
        error = np.sqrt(mine.var(0, ddof=1) / len(mine) + rest.var(0, ddof=1) / len(rest))
        assert (abs(mine.mean(0) - rest.mean(0)) < 4 * error).all(), list(CLASSES)[k]


def test_imagenet_has_the_same_bytes_with_one_and_two_workers(worlds, tmp_path):
    folder = demo.write_imagenet(tmp_path, "val", 24, demo.SEED_OF["val"], workers=2)
    assert tree_hash(folder) == tree_hash(worlds[True] / "imagenet" / "val")
    assert {p.name for p in folder.iterdir() if p.is_dir()} == {kind.wnid for kind in CLASSES.values()}
    picture = Image.open(next(folder.rglob("*.JPEG")))
    assert picture.size == (224, 224) and picture.mode == "RGB"


def test_a_clip_has_the_same_bytes_at_every_call(tmp_path):
    frames = world.film(0, 1)[0][:40]
    for name in "abcd":
        world.save_video(tmp_path / f"{name}.mp4", frames)
    assert len(set(tree_hash(tmp_path).values())) == 1


def test_second_call_leaves_finished_parts_alone(worlds, monkeypatch):
    monkeypatch.setattr(world, "tempfile", None)  # where all that is drawn lies first
    assert demo.demo_world() == worlds[True]


def test_half_written_folder_is_never_taken_for_the_data(tmp_path, monkeypatch):
    save = world.save_scene

    def interrupted(index, **where):
        if index == 7:
            raise KeyboardInterrupt
        save(index, **where)
    monkeypatch.setattr(world, "save_scene", interrupted)
    with pytest.raises(KeyboardInterrupt):
        demo.write_imagenet(tmp_path, "val", 12, 0)
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(world, "save_scene", save)
    demo.write_imagenet(tmp_path, "val", 12, 0)
    assert len(list(tmp_path.rglob("*.JPEG"))) == 12 and os.listdir(tmp_path) == ["val"]


def test_foreign_folder_and_unknown_part_are_refused(tmp_path):
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="no finished part"):
        demo.write_imagenet(tmp_path, "val", 12, 0)
    assert (tmp_path / "val" / "mine.txt").read_text() == "keep"
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
    (polygon,), _ = demo.segmentation(ring, crowd=False, rle=False)
    assert min(polygon[::2]) == pytest.approx(5, abs=.5) and max(polygon[::2]) == pytest.approx(45, abs=.5)
    ring[15:25, 15:35] = False
    rle, _ = demo.segmentation(ring, crowd=False, rle=False)
    assert coco_mask.area(rle) == ring.sum() == 1000


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
            here = keys[keys[:, 0] == int(float(r["t_s"]) * world.FPS)][:, 1:]
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
        assert file.streams.video[0].average_rate == world.FPS
    assert len(frames) == world.FRAMES and frames[0].shape == (240, 320, 3)
    masks = dict(np.load(root / "masks" / "clip01.npz"))
    assert masks["face"].shape == (world.FRAMES, 240, 320)
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


def test_popout_displays_differ_in_one_place():
    for name, (picture, where) in popout_displays().items():
        assert picture.shape == (256, 256, 3) and .02 < where.mean() < .2, name
        if name != "texture":
            cells = picture[8:248, 8:248].reshape(5, 48, 5, 48, 3).swapaxes(1, 2).reshape(25, -1)
            assert [i for i in range(25) if (cells[i] != cells[0]).any()] == [16], name
            assert where[8:248, 8:248].reshape(5, 48, 5, 48)[3, :, 1].all() and where.sum() == 48 ** 2


def test_pictures_are_those_that_the_shipped_checkpoints_were_trained_on():
    """A drawing that changes here changes the data of all checkpoints: undo it, or train them again."""
    red_green_blue_percent = [
        [128.52, 128.62, 131.64, 25.56], [119.84, 117.31, 106.34, 34.41], [98.95, 97.7, 92.21, 28.81],
        [151.7, 150.19, 141.52, 11.26], [112.86, 104.92, 91.57, 18.44], [122.69, 127.47, 133.47, 33.32],
        [140.8, 124.03, 116.55, 15.19], [93.44, 97.99, 106.75, 4.24], [158.53, 126.76, 129.83, 32.49],
        [138.79, 150.9, 146.48, 25.52], [164.76, 155.39, 138.24, 35.88], [133.14, 143.2, 139.67, 20.68]]
    for index, expected in enumerate(red_green_blue_percent):
        scene = render_scene(3, index)
        found = [*scene.image.mean((0, 1)), 100 * (scene.ids == 1).mean()]
        assert found == pytest.approx(expected, abs=.02), index  # another library may round a pixel differently


def test_show_writes_the_contact_sheet(worlds, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("demo.__main__.demo_world", lambda out, planted, parts: worlds[planted])
    main(["--show", "--out", str(tmp_path)])
    assert Image.open(capsys.readouterr().out.strip()).width > 1000


def test_command_writes_a_part_and_refuses_a_foreign_folder_in_one_sentence(tmp_path):
    job = "-m", "demo", "--parts", "objects", "--no-planted", "--out", tmp_path
    folder = Path(command(*job).splitlines()[0]) / "objects"
    assert len(list((folder / "images").iterdir())) == 20
    (folder / ".complete.json").unlink()
    said = command(*job, code=2)
    assert said.startswith("error: ") and said.count("\n") == 1 and str(folder) in said


def test_written_commands_pass_the_parser(monkeypatch):
    asked = []
    monkeypatch.setattr("demo.__main__.demo_world", lambda out, **how: asked.append(how))
    monkeypatch.setattr("demo.__main__.contact_sheet", lambda *_: None)
    texts = [demo.__doc__, *(p.read_text(encoding="utf-8") for p in [*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])]
    commands = [c for text in texts for c in re.findall(r"python -m demo((?: +--[-\w]+(?: \w+)*)+)", text)]
    for words in commands:
        main(shlex.split(words))
    assert len(asked) == len(commands) >= 2 and not all(how["planted"] for how in asked)
