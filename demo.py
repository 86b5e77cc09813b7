"""The demo world: data with known truth, drawn in seconds and written once as real files in the real formats.

    python demo.py --show                         # all parts, and runs/demo/contact_sheet.png
    python demo.py --parts salicon --no-planted   # observers without preferences: effects must be absent

Every script runs on it when no --data is given. What each part holds (pictures by demo_scenes.py):

    imagenet/{train,val}/<wnid>/*.JPEG       12 classes with ImageNet wnids, 224x224
    objectnet/images/<folder>/*.png          these and 4 other classes, turned, on odd backgrounds; red border
    objectnet/mappings/                      the official release's four files (1000 classes, most made up)
    salicon/images/, fixations_{train,val}2014.json   480x640, 3-7 objects, 20 workers, 1-based [row, col]
    coco/annotations/instances_{train,val}2014.json   of the same pictures; polygons, some RLE, crowds
    videos/{clips,gaze,keypoints,masks}/, viewers.csv, clips.csv   320x240, 24 frames/s, adults and children
    objects/images/*.png, fixations.csv      10 bags, 10 jars, 30 participants

Truth planted in the observers: the constants below. planted=False: all look uniformly, effects are absent.
A part is complete or absent (written beside, then renamed), a pure function of its arguments (the bytes: on
one installation, as encoders differ). Change a constant below and the world gets another folder. Time, one
core: imagenet 9 ms a picture, objectnet 25 ms, salicon 60 ms, six clips 6 s, objects 3 s; all of it 55 s.
"""
import argparse
import csv
import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import contourpy
import numpy as np
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask

from common import InputError
from legacy import cli, read_csv
from demo_scenes import Scene, background, finish, paint, render_scene, shadow
from demo_shapes import BUILDERS, CLASSES, EXTRA


# ---------------------------------------------------------------- constants
VERSION = 1  # part of the cache folder's name: raise it when a drawn pixel or a drawn fixation changes
PARTS = ("imagenet", "objectnet", "salicon", "videos", "objects")
SEED_OF = dict(train=1, val=2, objectnet=2_000, salicon_train=3_000, salicon_val=4_000, videos=5_000,
               objects=6_000)  # added to 10,000 x the seed: no picture occurs in two sets

# What observers of still scenes prefer: weight of a pixel, before the centre bias; the background has 1.
OBJECT_GAIN = 12.  # a pixel of a large inanimate object
ANIMACY_GAIN = 2.  # a pixel of an animate object, times that (exp03: animate > inanimate)
SMALL_GAIN = 1.  # weight times (LARGE / area)^SMALL_GAIN below LARGE (exp03: small > large); at 1 an object's
# share of the fixations does not depend on its size
LARGE, SMALL = 9216, 1024  # px^2 at 480x640, the size bins of COCO
KEY_GAIN = 4.  # weight added at eyes and head, in units of the object's own
CENTRE_SD = .35  # of the picture's sides, standard deviation of the centre bias
WORKERS, FIXATIONS, SAMPLES = 20, 8, 5  # a picture, a worker, a fixation (SALICON's mouse trace)
WORKER_SD, SAMPLE_SD = 5., 3.  # px at 480x640: a worker's constant offset, scatter within a fixation

# Where viewers of videos look: share of time at (eyes, mouth, body, a random place) (exp05: roles of heads)
VIEWER_SHARES = {"adult": (.62, .10, .13, .15), "child": (.12, .33, .40, .15)}
VIEWERS = {"adult": 14, "child": 10}
GAZE_LAG, GAZE_SD, VIEWER_SD = .12, 5., 3.  # s behind the figure; px within a fixation; px offset of a viewer
CLIPS, FRAMES, FPS, VIDEO_SIZE = 6, 72, 24, (240, 320)
SAMPLE_HZ = 60

# Still objects: share of fixations on the parts (buckle, handle; neck, rim), the rest anywhere on the object
PART_SHARE, PART_SD, PARTICIPANTS, OBJECT_SIZE = .75, 14., 30, (448, 448)  # PART_SD in px of 448x448

COCO_CATEGORIES = {  # supercategory: "id name, ..." of the 80 categories of COCO
    "person": "1 person",
    "vehicle": "2 bicycle, 3 car, 4 motorcycle, 5 airplane, 6 bus, 7 train, 8 truck, 9 boat",
    "outdoor": "10 traffic light, 11 fire hydrant, 13 stop sign, 14 parking meter, 15 bench",
    "animal": "16 bird, 17 cat, 18 dog, 19 horse, 20 sheep, 21 cow, 22 elephant, 23 bear, 24 zebra, "
              "25 giraffe",
    "accessory": "27 backpack, 28 umbrella, 31 handbag, 32 tie, 33 suitcase",
    "sports": "34 frisbee, 35 skis, 36 snowboard, 37 sports ball, 38 kite, 39 baseball bat, "
              "40 baseball glove, 41 skateboard, 42 surfboard, 43 tennis racket",
    "kitchen": "44 bottle, 46 wine glass, 47 cup, 48 fork, 49 knife, 50 spoon, 51 bowl",
    "food": "52 banana, 53 apple, 54 sandwich, 55 orange, 56 broccoli, 57 carrot, 58 hot dog, 59 pizza, "
            "60 donut, 61 cake",
    "furniture": "62 chair, 63 couch, 64 potted plant, 65 bed, 67 dining table, 70 toilet",
    "electronic": "72 tv, 73 laptop, 74 mouse, 75 remote, 76 keyboard, 77 cell phone",
    "appliance": "78 microwave, 79 oven, 80 toaster, 81 sink, 82 refrigerator",
    "indoor": "84 book, 85 clock, 86 vase, 87 scissors, 88 teddy bear, 89 hair drier, 90 toothbrush"}
# class -> (index among ImageNet's 1000 in the order of wnids, name in ImageNet's list)
IMAGENET = {"zebra": (340, "zebra"), "sheep": (348, "ram, tup"), "cow": (345, "ox"),
            "cat": (281, "tabby, tabby cat"), "bird": (11, "goldfinch, Carduelis carduelis"),
            "elephant": (386, "African elephant, Loxodonta africana"), "car": (817, "sports car, sport car"),
            "bus": (779, "school bus"), "cup": (968, "cup"),
            "umbrella": (879, "umbrella"), "clock": (409, "analog clock"), "airplane": (404, "airliner")}
COFFEE_MUG = (504, "coffee mug")  # ObjectNet maps some labels to several ImageNet classes; here "Cup"


# ---------------------------------------------------------------- files
DONE = ".complete.json"  # in every finished folder: what was asked for


def write_once(folder: Path, asked: dict, write: Callable[[Path], None]) -> Path:
    """Lets write(part) fill a new folder, then renames it: `folder` is complete or not there at all."""
    done, asked = folder / DONE, {"version": VERSION, **asked}
    if done.exists():
        if json.loads(done.read_text()) != asked:
            raise InputError(f"{folder} holds {done.read_text()}, expected {json.dumps(asked)}; "
                             "name another folder.")
        return folder
    if folder.exists():
        raise InputError(f"{folder} exists and was not finished by demo.py; move it away or name another.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        part.chmod(0o755)
        write(part)
        (part / DONE).write_text(json.dumps(asked))
        os.rename(part, folder)
    except OSError as e:
        if not done.exists():  # else another process was first, with the same files
            raise InputError(f"cannot write {folder} ({e.strerror}); make room or name another.") from e
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def write_csv(path: Path, header: str, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header.split(), *rows])


# ---------------------------------------------------------------- ImageNet and ObjectNet
def save_scene(index: int, folder: Path, split: str, seed: int):
    wnid = list(CLASSES.values())[index % len(CLASSES)][0]
    picture = Image.fromarray(render_scene(seed, index).image)
    picture.save(folder / wnid / f"demo_{split}_{index:06d}.JPEG", quality=90)


def write_imagenet(root: Path, split: str, n: int, seed: int, workers: int = 1) -> Path:
    """root/split/<wnid>/demo_<split>_<index>.JPEG, n pictures 224x224; the class of index i is i % 12."""
    def write(part: Path):
        for wnid, *_ in CLASSES.values():
            (part / wnid).mkdir()
        save = partial(save_scene, folder=part, split=split, seed=seed)
        if workers <= 1:
            return [save(i) for i in range(n)]
        with ProcessPoolExecutor(workers) as pool:
            list(pool.map(save, range(n), chunksize=64))
    return write_once(Path(root) / split, dict(n=n, seed=seed), write)


def write_objectnet(folder: Path, n: int, seed: int) -> Path:
    """n pictures a class in ObjectNet's layout, 12 classes of ImageNet and 4 that it lacks."""
    def write(part: Path):
        names = {name: name.capitalize() for name in [*CLASSES, "bottle", "chair", "vase", "ball"]}
        for k, name in enumerate(names):
            (part / "images" / name).mkdir(parents=True)
            for j in range(n):
                rng = np.random.default_rng([seed, k, j])
                wanted = [(name, rng.uniform(.1, .35))]
                picture = render_scene(seed, k * n + j, (252, 252), wanted, turn=np.pi, sideways=True).image
                picture = ImageOps.expand(Image.fromarray(picture), 2, (255, 0, 0))
                picture.save(part / "images" / name / f"{k:02d}{j:04d}.png")
        to_imagenet = {names[c]: name for c, (_, name) in IMAGENET.items()}
        to_imagenet["Cup"] += f"; {COFFEE_MUG[1]}"
        # the list of names has another order than the classes of the networks, as in the official release
        line_of = {str(i): (7 * i + 13) % 1000 for i in range(1000)}
        lines = [f"other class {i}" for i in range(1000)]
        for index, name in [*IMAGENET.values(), COFFEE_MUG]:
            lines[line_of[str(index)]] = name
        (part / "mappings").mkdir()
        for file, content in dict(folder_to_objectnet_label=names, objectnet_to_imagenet_1k=to_imagenet,
                                  pytorch_to_imagenet_2012_id=line_of).items():
            (part / "mappings" / f"{file}.json").write_text(json.dumps(content, indent=1))
        (part / "mappings" / "imagenet_to_label_2012_v2").write_text("\n".join(lines) + "\n")
    return write_once(folder, dict(n=n, seed=seed), write)


# ---------------------------------------------------------------- SALICON and COCO
def crowded_scene(seed: int, index: int) -> Scene:
    """480x640, 3-7 objects: at least one animate, one inanimate, one small, one large; small in front.
    They keep off the border, where blurred fixation maps fall off: large ones would seem to repel gaze."""
    rng = np.random.default_rng([seed, index, 1])
    pool = {**CLASSES, **EXTRA}
    animate = [name for name in pool if pool[name][3]] + ["person"] * 3
    still = [name for name in pool if not pool[name][3]]
    n = rng.integers(3, 8)
    names = [rng.choice(animate if k % 2 else still) for k in range(n)]
    ranges = [(.04, .09), (.0013, .0032)] + [((.0013, .0032), (.0036, .028), (.032, .07))[rng.integers(3)]
                                             for _ in range(n - 2)]
    shares = np.sort([rng.uniform(*r) for r in ranges])[::-1]
    wanted = []
    for name, share in zip(rng.permutation(names), shares):
        side = np.sqrt(share)
        spots = rng.uniform((.08 + .7 * side, max(.45, .08 + 2.2 * side)), (.92 - .7 * side, .92), (5, 2))
        spots *= (640, 480)
        taken = np.array([w[2] for w in wanted] or [(320, 240)])
        room = np.linalg.norm(spots[:, None] - taken, axis=2).min(1)  # of five spots the freest
        wanted.append((str(name), share, tuple(spots[room.argmax()])))
    return render_scene(seed, index, (480, 640), wanted)


def preference(scene: Scene, planted: bool) -> np.ndarray:
    """Density of fixations (img_h, img_w), sum 1: the weights of the constants above, or uniform."""
    img_h, img_w = scene.ids.shape
    if not planted:
        return np.full((img_h, img_w), 1 / (img_h * img_w))
    weight, animate = np.ones((img_h, img_w)), {name: v[3] for name, v in {**CLASSES, **EXTRA}.items()}
    rows, cols = np.mgrid[:img_h, :img_w]
    for number, thing in enumerate(scene.objects, 1):
        seen = scene.ids == number
        area = max(int(seen.sum()), SMALL // 4)
        gain = OBJECT_GAIN * max(LARGE / area, 1) ** SMALL_GAIN
        gain *= ANIMACY_GAIN if animate[thing["name"]] else 1
        weight[seen] += gain
        for part, (row, col) in thing["points"].items():
            if part in ("eye0", "eye1", "head"):
                distance2 = (rows[seen] - row) ** 2 + (cols[seen] - col) ** 2
                weight[seen] += KEY_GAIN * gain * np.exp(-distance2 / (.02 * area))  # sd: sqrt(area) / 10
    weight *= np.exp(-((rows / img_h - .5) ** 2 + (cols / img_w - .5) ** 2) / (2 * CENTRE_SD ** 2))
    return weight / weight.sum()


def draw_fixations(density: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """n pixels (n, 2) row, col from a density (img_h, img_w)."""
    cells = np.searchsorted(np.cumsum(density), rng.random(n), side="right")
    return np.stack(np.unravel_index(np.minimum(cells, density.size - 1), density.shape), 1).astype(float)


def worker_samples(density: np.ndarray, rng: np.random.Generator, planted: bool) -> list:
    """Each worker's raw samples [[row, col], ...], 1-based whole pixels; those outside are dropped."""
    fixations = draw_fixations(density, WORKERS * FIXATIONS, rng).reshape(WORKERS, FIXATIONS, 2)
    offsets = np.random.default_rng(0).normal(0, WORKER_SD if planted else 0, (WORKERS, 1, 2))  # as ever
    samples = np.repeat(fixations + offsets, SAMPLES, 1)
    samples = np.floor(samples + rng.normal(0, SAMPLE_SD, samples.shape)).astype(int) + 1
    inside = ((samples >= 1) & (samples <= density.shape)).all(2)
    return [s[keep].tolist() for s, keep in zip(samples, inside)]


def segmentation(mask: np.ndarray, crowd: bool, rle: bool):
    """COCO's three forms: polygons, compressed RLE (also where polygons cannot tell the holes), for a crowd
    uncompressed RLE."""
    if crowd:
        runs = np.flatnonzero(np.diff(np.r_[0, mask.ravel(order="F"), 0]))
        return {"size": list(mask.shape), "counts": np.diff(np.r_[0, runs, mask.size]).tolist()}
    code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
    lines = contourpy.contour_generator(z=np.pad(mask, 1).astype(float)).lines(.5)  # x, y, padded by 1
    # twice the signed areas: outlines run one way, holes the other; pixel centres lie at + .5
    signed = np.array([np.sum(a[:-1, 0] * a[1:, 1] - a[1:, 0] * a[:-1, 1]) for a in lines])
    keep = signed * np.sign(signed[np.abs(signed).argmax()]) > 8
    if rle or abs(np.abs(signed[keep]).sum() / 2 - mask.sum()) > .03 * mask.sum():
        return {"size": code["size"], "counts": code["counts"].decode()}
    return [np.round(a[:-1] - .5, 1).ravel().tolist() for a, outline in zip(lines, keep) if outline]


def annotate(scene: Scene, image_id: int, first_id: int) -> list:
    """COCO annotations of what is visible; objects of fewer than 80 visible pixels are left out."""
    pool, annotations = {**CLASSES, **EXTRA}, []
    img_h, img_w = scene.ids.shape
    for number, thing in enumerate(scene.objects, 1):
        mask = scene.ids == number
        if mask.sum() < 80:
            continue
        identity = first_id + len(annotations)
        crowd = identity % 400 == 7
        segments = segmentation(mask, crowd, rle=identity % 5 == 0)
        code = segments if isinstance(segments, dict) and not crowd else \
            coco_mask.frPyObjects(segments, img_h, img_w)
        code = coco_mask.merge(code) if isinstance(code, list) else code
        annotations.append(dict(
            id=identity, image_id=image_id, category_id=pool[thing["name"]][1], iscrowd=int(crowd),
            segmentation=segments, area=float(coco_mask.area(code)), bbox=coco_mask.toBbox(code).tolist()))
    return annotations


def write_salicon(root: Path, n_train: int, n_val: int, seed: int, planted: bool) -> Path:
    """root/salicon and root/coco (annotations of the same pictures)."""
    categories = [dict(supercategory=group, id=int(c.split()[0]), name=c.split(" ", 1)[1])
                  for group, names in COCO_CATEGORIES.items() for c in names.split(", ")]

    def write(part: Path):
        (part / "images").mkdir()
        (part / "annotations").mkdir()
        for split, n in (("train", n_train), ("val", n_val)):
            offset = seed + SEED_OF[f"salicon_{split}"]
            images, gaze, objects = [], [], []
            for index in range(n):
                scene = crowded_scene(offset, index)
                image_id = (100_000 if split == "train" else 200_000) + index
                name = f"COCO_{split}2014_{image_id:012d}.jpg"
                Image.fromarray(scene.image).save(part / "images" / name, quality=90)
                images.append(dict(id=image_id, file_name=name, height=480, width=640, license=1))
                objects += annotate(scene, image_id, len(objects) + 1)
                density, rng = preference(scene, planted), np.random.default_rng([offset, index, 2])
                for worker, points in enumerate(worker_samples(density, rng, planted), 1):
                    gaze.append(dict(id=len(gaze) + 1, image_id=image_id, worker_id=worker, fixations=points))
            shared = dict(info=dict(description="demo world", version=str(VERSION)), images=images,
                          licenses=[dict(id=1, name="none", url="")])
            (part / f"fixations_{split}2014.json").write_text(json.dumps(
                {**shared, "type": "fixations", "annotations": gaze}))
            (part / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(
                {**shared, "annotations": objects, "categories": categories}))
    asked = dict(n_train=n_train, n_val=n_val, seed=seed, planted=planted)
    folder = write_once(root / "salicon", asked, write)
    write_once(root / "coco", asked,
               lambda part: shutil.copytree(folder / "annotations", part / "annotations"))
    return folder


# ---------------------------------------------------------------- videos
def pose(name: str, shape_rng, t: float, phase: float):
    """The figure at time t (s): a person walks and talks now and then."""
    if name != "person":
        return BUILDERS[name](name, shape_rng)
    talk = max(0., np.sin(9 * t + phase)) * (np.sin(1.3 * t + phase) > -.3)
    return BUILDERS[name](name, shape_rng, walk=4 * t + phase, mouth=talk)


def film(seed: int, clip: int) -> tuple[np.ndarray, dict, list]:
    """One clip: frames (T, img_h, img_w, 3); masks face, body, ground (T, img_h, img_w) bool; key points
    [(frame, part, row, col)]. One person, in every second clip two, in every third an animal besides."""
    rng, (img_h, img_w) = np.random.default_rng([seed, clip]), VIDEO_SIZE
    horizon = rng.uniform(.4, .6)
    still = background(rng, img_h, img_w, horizon)
    names = ["person"] * (1 + clip % 2) + (["cat" if clip % 2 else "sheep"] if clip % 3 == 2 else [])
    starts = [(k + rng.uniform(.25, .75)) * img_w / len(names) for k in range(len(names))]
    speeds, phases = rng.uniform(-18, 18, len(names)), rng.uniform(0, 6, len(names))  # px/s, rad
    scales = [(rng.uniform(82, 100) if name == "person" else rng.uniform(48, 60)) for name in names]
    frames, masks, points = [], {k: [] for k in ("face", "body", "ground")}, []
    rows, cols = np.mgrid[:img_h, :img_w]
    for frame in range(FRAMES):
        t = frame / FPS
        image, ids, face = still.copy(), np.zeros((img_h, img_w), np.int32), np.zeros((img_h, img_w), bool)
        for k, (name, scale) in enumerate(zip(names, scales)):
            look = np.random.default_rng([seed, clip, k])  # the same figure in every frame
            shape = pose(name, look, t, phases[k])
            x = starts[k] + speeds[k] * (t - 1.5)
            y = img_h * .96 - scale * (1.05 if name == "person" else .75) + 2 * np.sin(8 * t + phases[k])
            shadow(image, x, img_h * .955, .6 * scale, .08 * scale)
            _, keys = paint(image, ids, k + 1, shape, (x, y), scale, look, .03 * np.sin(2 * t + phases[k]))
            kind = "" if name == "person" else "animal_"
            points += [(frame, kind + ("eyes" if p[:3] == "eye" else p), *keys[p]) for p in keys]
            row, col = keys["head"]
            near = ((rows - row) / (.27 * scale)) ** 2 + ((cols - col) / (.22 * scale)) ** 2 <= 1
            face = (face & (ids <= k)) | (near & (ids == k + 1) & (name == "person"))
        frames.append(finish(image, np.random.default_rng([seed, clip, 99])))
        masks["face"].append(face)
        masks["body"].append((ids > 0) & ~face)
        masks["ground"].append((ids == 0) & (rows > horizon * img_h))
    return np.stack(frames), {k: np.stack(v) for k, v in masks.items()}, points


def viewer_gaze(points: list, group: str, rng: np.random.Generator, planted: bool) -> list:
    """One viewer's samples (t_s, x_px, y_px), "" where missing (a blink): fixations of 0.2-0.6 s that follow
    their target with a lag, targets drawn by VIEWER_SHARES; planted=False: fixations anywhere."""
    img_h, img_w = VIDEO_SIZE
    tracks = {}  # (part, which) -> (T, 2) row, col
    for frame, part, row, col in points:
        which = sum(1 for p, k in tracks if p == part and len(tracks[p, k]) > frame)
        tracks.setdefault((part, which), []).append((row, col))
    figures = [np.array(v) for (part, _), v in tracks.items() if part == "head"]
    offset, samples, n = rng.normal(0, VIEWER_SD, 2), [], FRAMES * SAMPLE_HZ // FPS
    while len(samples) < n:
        target = rng.choice(4, p=VIEWER_SHARES[group]) if planted else 3
        figure, place = rng.integers(len(figures)), rng.random(2) * (img_h, img_w)
        if target < 2:
            part = ("eyes", "mouth")[target]
            which = 2 * figure + rng.integers(2) if part == "eyes" else figure
            track = np.array(tracks[part, which])
        elif target == 2:
            track = figures[figure] + rng.uniform((60, -12), (130, 12))  # trunk and legs
        else:
            track = np.tile(place, (FRAMES, 1))
        blink = rng.random() < .04
        for _ in range(min(int(rng.uniform(.2, .6) * SAMPLE_HZ), n - len(samples))):
            t = len(samples) / SAMPLE_HZ
            aim = track[int(np.clip((t - GAZE_LAG) * FPS, 0, FRAMES - 1))]
            row, col = aim + offset + rng.normal(0, GAZE_SD, 2)
            seen = not blink and 0 <= row < img_h and 0 <= col < img_w
            samples.append((f"{t:.4f}", f"{col:.1f}" if seen else "", f"{row:.1f}" if seen else ""))
    return samples


def save_video(path: Path, frames: np.ndarray):
    """H.264 where the library has an encoder for it, else MPEG-4; (T, img_h, img_w, 3) uint8."""
    with av.open(str(path), "w") as file:
        codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
        stream = file.add_stream(codec, rate=FPS, options={"crf": "18"} if codec == "libx264" else {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
        stream.bit_rate, stream.thread_count = 2_000_000, 1  # one thread: the same bytes everywhere
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def write_videos(folder: Path, seed: int, planted: bool) -> Path:
    """clips/NAME.mp4; gaze/NAME.csv (viewer, t_s, x_px, y_px); keypoints/NAME.csv (frame from 0, part, x_px,
    y_px; parts eyes, mouth, head, animal_...; a row for each eye); masks/NAME.npz; viewers.csv, clips.csv."""
    viewers = [(f"{group}{k:02d}", group) for group, n in VIEWERS.items() for k in range(n)]

    def write(part: Path):
        for kind in ("clips", "masks"):
            (part / kind).mkdir()
        for clip in range(CLIPS):
            frames, masks, points = film(seed, clip)
            name = f"clip{clip + 1:02d}"
            save_video(part / "clips" / f"{name}.mp4", frames)
            np.savez_compressed(part / "masks" / f"{name}.npz", **masks)
            write_csv(part / "keypoints" / f"{name}.csv", "frame part x_px y_px",
                      [(frame, p, f"{col:.1f}", f"{row:.1f}") for frame, p, row, col in points])
            gaze = [(viewer, *sample) for k, (viewer, group) in enumerate(viewers) for sample in
                    viewer_gaze(points, group, np.random.default_rng([seed, clip, k, 3]), planted)]
            write_csv(part / "gaze" / f"{name}.csv", "viewer t_s x_px y_px", gaze)
        write_csv(part / "viewers.csv", "viewer group", viewers)
        genres = ("drama", "animation", "nature")
        write_csv(part / "clips.csv", "clip genre",
                  [(f"clip{k + 1:02d}", genres[k % 3]) for k in range(CLIPS)])
    return write_once(folder, dict(seed=seed, planted=planted), write)


# ---------------------------------------------------------------- still objects
def still_object(seed: int, index: int) -> Scene:
    """A bag (index 0-9) or a jar (10-19) on white."""
    rng = np.random.default_rng([seed, index])
    image, ids = np.full((3, *OBJECT_SIZE), 250, np.float32), np.zeros(OBJECT_SIZE, np.int32)
    name = "bag" if index < 10 else "jar"
    shape = BUILDERS[name](name, rng)
    centre = OBJECT_SIZE[1] / 2 + rng.uniform(-25, 25), OBJECT_SIZE[0] * .55 + rng.uniform(-20, 20)
    mask, keys = paint(image, ids, 1, shape, centre, rng.uniform(140, 165), rng, rng.uniform(-.06, .06))
    return Scene(np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0), ids,
                 [dict(name=name, mask=mask, points=keys)])


def write_objects(folder: Path, seed: int, planted: bool) -> Path:
    """images/*.png and fixations.csv (participant, image, x_px, y_px, duration_s)."""
    def write(part: Path):
        (part / "images").mkdir()
        rows = []
        for index in range(20):
            scene = still_object(seed, index)
            thing, name = scene.objects[0], f"{scene.objects[0]['name']}{index % 10 + 1:02d}.png"
            Image.fromarray(scene.image).save(part / "images" / name)
            keys = np.array(list(thing["points"].values()))  # (2, 2) row, col
            anywhere = thing["mask"] if planted else np.ones(OBJECT_SIZE)
            for participant in range(PARTICIPANTS):
                rng = np.random.default_rng([seed, index, participant, 4])
                n = rng.integers(8, 15)
                fixations = draw_fixations(anywhere / anywhere.sum(), n, rng)
                on_part = (rng.random(n) < PART_SHARE) & planted
                aimed = keys[rng.integers(len(keys), size=n)] + rng.normal(0, PART_SD, (n, 2))
                fixations = np.where(on_part[:, None], aimed, fixations).clip(0, np.array(OBJECT_SIZE) - 1)
                seconds = rng.gamma(6, .045, n) * np.where(on_part, 1.2, 1.)
                rows += [(f"p{participant + 1:02d}", name, f"{col:.1f}", f"{row:.1f}", f"{s:.3f}")
                         for (row, col), s in zip(fixations, seconds)]
        write_csv(part / "fixations.csv", "participant image x_px y_px duration_s", rows)
    return write_once(folder, dict(seed=seed, planted=planted), write)


# ---------------------------------------------------------------- the world
def demo_world(cache_dir: Path | None = None, n_train: int = 1200, n_val: int = 600, planted: bool = True,
               seed: int = 0, parts: tuple = PARTS, n_salicon: tuple = (240, 120), n_objectnet: int = 8,
               workers: int = 1) -> Path:
    """Writes the parts asked for, if they are not there, and returns the world's folder cache_dir/<tag>.

    cache_dir: default runs/demo_world beside this file. n_train, n_val: pictures of imagenet; n_salicon:
    (train, val); n_objectnet: pictures a class. planted: whether observers have preferences.
    """
    unknown = set(parts) - set(PARTS)
    if unknown:
        raise InputError(f"unknown part {sorted(unknown)[0]!r}; expected some of {', '.join(PARTS)}.")
    plain = {k: v for k, v in globals().items() if k.isupper() and k not in ("BUILDERS", "CLASSES", "EXTRA")}
    tag = (f"v{VERSION}-{zlib.crc32(repr(plain).encode()):08x}_seed{seed}_{'planted' if planted else 'null'}"
           f"_i{n_train}-{n_val}_o{n_objectnet}_s{n_salicon[0]}-{n_salicon[1]}")
    root = Path(cache_dir or Path(__file__).resolve().parent / "runs" / "demo_world") / tag
    first = 10_000 * seed
    if "imagenet" in parts:
        write_imagenet(root / "imagenet", "train", n_train, first + SEED_OF["train"], workers)
        write_imagenet(root / "imagenet", "val", n_val, first + SEED_OF["val"], workers)
    if "objectnet" in parts:
        write_objectnet(root / "objectnet", n_objectnet, first + SEED_OF["objectnet"])
    if "salicon" in parts:
        write_salicon(root, *n_salicon, first, planted)
    if "videos" in parts:
        write_videos(root / "videos", first + SEED_OF["videos"], planted)
    if "objects" in parts:
        write_objects(root / "objects", first + SEED_OF["objects"], planted)
    return root


# ---------------------------------------------------------------- figures
def contact_sheet(root: Path, path: Path) -> Path:
    """All kinds of data in one figure, with simulated fixations on top; drawn from the files."""
    import matplotlib
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    panels = []  # (title, picture, x, y)
    for name, (wnid, *_) in CLASSES.items():
        panels.append((f"{name} ({wnid})", sorted((root / "imagenet" / "val" / wnid).iterdir())[0], [], []))
    for folder in sorted((root / "objectnet" / "images").iterdir())[::3]:
        panels.append((f"objectnet: {folder.name}", sorted(folder.iterdir())[0], [], []))
    salicon = json.loads((root / "salicon" / "fixations_val2014.json").read_text())
    for image in salicon["images"][:6]:
        mine = [a["fixations"] for a in salicon["annotations"] if a["image_id"] == image["id"]]
        gaze = np.concatenate(mine)
        panels.append((image["file_name"], root / "salicon" / "images" / image["file_name"], *gaze.T[::-1]))
    for clip in sorted((root / "videos" / "clips").iterdir()):  # the middle frame, all viewers
        with av.open(str(clip)) as file:
            frame = [f.to_ndarray(format="rgb24") for f in file.decode(video=0)][FRAMES // 2]
        rows = [r for r in read_csv(root / "videos" / "gaze" / f"{clip.stem}.csv")
                if r["x_px"] != "" and abs(r["t_s"] - .5 * FRAMES / FPS) < .01]
        panels.append((clip.name, frame, [r["x_px"] for r in rows], [r["y_px"] for r in rows]))
    rows = read_csv(root / "objects" / "fixations.csv")
    for name in sorted({r["image"] for r in rows})[7:13]:
        mine = [r for r in rows if r["image"] == name]
        panels.append((name, root / "objects" / "images" / name, [r["x_px"] for r in mine],
                       [r["y_px"] for r in mine]))
    figure, axes = plt.subplots(-(-len(panels) // 6), 6, figsize=(15, 2.4 * -(-len(panels) // 6)))
    for ax in axes.flat:
        ax.axis("off")
    for ax, (title, picture, x, y) in zip(axes.flat, panels):
        ax.imshow(picture if isinstance(picture, np.ndarray) else Image.open(picture))
        ax.scatter(x, y, s=5, c="yellow", edgecolors="black", linewidths=.2)
        ax.set_title(title, fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


# ---------------------------------------------------------------- main
def main():
    parser = argparse.ArgumentParser(description="Writes the demo world.")
    parser.add_argument("--out", type=Path, help="cache folder (default: runs/demo_world)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="default: all")
    parser.add_argument("--seed", type=int, default=0, help="of every picture and observer (default: 0)")
    parser.add_argument("--no-planted", action="store_true", help="observers without preferences")
    parser.add_argument("--workers", type=int, default=1, help="processes that draw imagenet (default: 1)")
    parser.add_argument("--limit", type=int, help="pictures a set at most, from 12 (default: all)")
    parser.add_argument("--show", action="store_true", help="all parts, and a figure in runs/demo or --out")
    args = parser.parse_args()
    if args.seed < 0 or args.workers < 1 or (12 if args.limit is None else args.limit) < 12:
        raise InputError("--seed starts at 0, --workers at 1, --limit at 12; raise the one that is lower.")
    n = args.limit or 1200
    sizes = dict(n_train=n, n_val=min(n, 600), n_salicon=(min(n, 240), min(n, 120)),
                 n_objectnet=min(8, -(-n // 16)))
    root = demo_world(args.out, planted=not args.no_planted, seed=args.seed, workers=args.workers,
                      parts=PARTS if args.show else tuple(args.parts), **sizes)
    print(root)
    if args.show:
        out = args.out or Path(__file__).resolve().parent / "runs" / "demo"
        print(contact_sheet(root, out / "contact_sheet.png"))


if __name__ == "__main__":
    cli(main)
