"""The files of the demo world, what observers prefer, and where they look (the card is in __init__.py)."""
import csv
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import av
import contourpy
import numpy as np
from PIL import Image, ImageOps
from pycocotools import mask as coco_mask
from tqdm import tqdm

from common import InputError
from demo.scenes import Scene, background, finish, paint, render_scene, shadow
from demo.shapes import CLASSES, EXTRA, build

# ---------------------------------------------------------------- constants
VERSION = 1  # part of the folder's name: raise it after a change of a constant or of a drawing
PARTS = ("imagenet", "training", "objectnet", "salicon", "videos", "objects")
SEED_OF = dict(train=1, val=2, objectnet=2_000, salicon_train=3_000, salicon_val=4_000, videos=5_000,
               objects=6_000)  # added to 10,000 x the seed: no picture occurs in two sets
DONE = ".complete.json"  # in every finished folder: its arguments
KINDS = CLASSES | EXTRA

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

# the 80 categories as in COCO's own files: dict(supercategory, id, name)
COCO_CATEGORIES = json.loads(Path(__file__).with_name("coco_categories.json").read_text())


# ---------------------------------------------------------------- files
def write_once(folder: Path, fill: Callable, **asked) -> Path:
    """fill(part, **asked) writes into a new folder beside, which is then renamed: complete or not there."""
    if (folder / DONE).exists():
        return folder
    if folder.exists():
        raise InputError(f"{folder} exists, but no finished part of the demo world is in it; "
                         "move it away or name another folder.")
    print(f"drawing the demo world's {folder.name} (once, seconds to a minute)", file=sys.stderr, flush=True)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as beside:
            part = Path(beside) / folder.name
            part.mkdir()
            fill(part, **asked)
            (part / DONE).write_text(json.dumps({"version": VERSION, **asked}))
            os.rename(part, folder)
    except OSError as e:
        if not (folder / DONE).exists():  # else another process was first, with the same files
            raise InputError(f"cannot write {folder} ({e.strerror}); make room or name another.") from e
    return folder


def write_csv(path: Path, header: str, rows: list):
    path.parent.mkdir(exist_ok=True)
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([header.split(), *rows])


# ---------------------------------------------------------------- ImageNet and ObjectNet
def save_scene(index: int, folder: Path, seed: int):
    wnid = list(CLASSES.values())[index % len(CLASSES)].wnid
    picture = Image.fromarray(render_scene(seed, index).image)
    picture.save(folder / wnid / f"demo_{folder.name}_{index:06d}.JPEG", quality=90)


def fill_imagenet(part: Path, n: int, seed: int, workers: int):
    for kind in CLASSES.values():
        (part / kind.wnid).mkdir()
    save = partial(save_scene, folder=part, seed=seed)
    if workers <= 1:
        return list(map(save, tqdm(range(n), unit=" pictures")))
    with ProcessPoolExecutor(workers) as pool:
        return list(tqdm(pool.map(save, range(n), chunksize=16), total=n, unit=" pictures"))


def write_imagenet(root: Path, split: str, n: int, seed: int, workers: int = 1) -> Path:
    """root/split/<wnid>/demo_<split>_<index>.JPEG, n pictures 224x224; the class of index i is i % 12."""
    return write_once(Path(root) / split, partial(fill_imagenet, workers=workers), n=n, seed=seed)


def fill_objectnet(part: Path, n: int, seed: int):
    """n pictures a class in ObjectNet's layout, 12 classes of ImageNet and 4 that it lacks."""
    names = {name: name.capitalize() for name in [*CLASSES, "bottle", "chair", "vase", "ball"]}
    for k, name in enumerate(names):
        (part / "images" / name).mkdir(parents=True)
        for j in range(n):
            wanted = [(name, np.random.default_rng([seed, k, j]).uniform(.1, .35))]
            picture = render_scene(seed, k * n + j, (252, 252), wanted, turn=np.pi, sideways=True).image
            picture = ImageOps.expand(Image.fromarray(picture), 2, (255, 0, 0))
            picture.save(part / "images" / name / f"{k:02d}{j:04d}.png")
    # the official list of names has another order than the networks' classes; some labels have two classes
    line_of = {str(i): (7 * i + 13) % 1000 for i in range(1000)}
    lines = [f"other class {i}" for i in range(1000)]
    to_imagenet = {}
    for name, kind in CLASSES.items():
        lines[line_of[str(kind.number)]] = to_imagenet[names[name]] = kind.title
    lines[line_of["504"]] = "coffee mug"
    to_imagenet["Cup"] += "; coffee mug"
    (part / "mappings").mkdir()
    (part / "mappings" / "imagenet_to_label_2012_v2").write_text("\n".join(lines) + "\n")
    for file, content in dict(folder_to_objectnet_label=names, objectnet_to_imagenet_1k=to_imagenet,
                              pytorch_to_imagenet_2012_id=line_of).items():
        (part / "mappings" / f"{file}.json").write_text(json.dumps(content, indent=1))


# ---------------------------------------------------------------- SALICON and COCO
def crowded_scene(seed: int, index: int) -> Scene:
    """480x640, 3-7 objects: at least one animate, one inanimate, one small, one large; small in front.
    They keep off the border, where blurred fixation maps fall off: large ones would seem to repel gaze."""
    rng = np.random.default_rng([seed, index, 1])
    animate = [name for name, kind in KINDS.items() if kind.animate] + ["person"] * 3
    inanimate = [name for name, kind in KINDS.items() if not kind.animate]
    n = rng.integers(3, 8)
    names = [rng.choice(animate if k % 2 else inanimate) for k in range(n)]
    large, small = (.04, .09), (.0013, .0032)  # shares of the picture
    others = small, (.0036, .028), (.032, .07)
    ranges = [large, small] + [others[rng.integers(3)] for _ in range(n - 2)]
    shares = np.sort([rng.uniform(*r) for r in ranges])[::-1]
    wanted, feet = [], []
    for name, share in zip(rng.permutation(names), shares):
        side = np.sqrt(share)
        spots = rng.uniform((.08 + .7 * side, max(.45, .08 + 2.2 * side)), (.92 - .7 * side, .92), (5, 2))
        spots *= (640, 480)
        room = np.linalg.norm(spots[:, None] - np.array(feet or [(320, 240)]), axis=2).min(1)
        feet.append(tuple(spots[room.argmax()]))  # of five the freest
        wanted.append((str(name), share, feet[-1]))
    return render_scene(seed, index, (480, 640), wanted)


def preference(scene: Scene, planted: bool) -> np.ndarray:
    """Density of fixations (img_h, img_w), sum 1: the weights of the constants above, or uniform."""
    img_h, img_w = scene.ids.shape
    if not planted:
        return np.full((img_h, img_w), 1 / (img_h * img_w))
    weight = np.ones((img_h, img_w))
    rows, cols = np.mgrid[:img_h, :img_w]
    for number, thing in enumerate(scene.objects, 1):
        seen = scene.ids == number
        area = max(int(seen.sum()), SMALL // 4)
        gain = OBJECT_GAIN * max(LARGE / area, 1) ** SMALL_GAIN
        if KINDS[thing["name"]].animate:
            gain *= ANIMACY_GAIN
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
    samples = draw_fixations(density, WORKERS * FIXATIONS, rng).reshape(WORKERS, FIXATIONS, 2)
    if planted:  # a worker's offset is the same in every picture
        samples += np.random.default_rng(0).normal(0, WORKER_SD, (WORKERS, 1, 2))
    samples = np.repeat(samples, SAMPLES, 1)  # (WORKERS, FIXATIONS x SAMPLES, 2)
    samples = np.floor(samples + rng.normal(0, SAMPLE_SD, samples.shape)).astype(int) + 1
    inside = ((samples >= 1) & (samples <= density.shape)).all(2)
    return [s[keep].tolist() for s, keep in zip(samples, inside)]


def segmentation(mask: np.ndarray, crowd: bool, rle: bool):
    """(COCO's annotation of a mask, its compressed RLE). Three forms: polygons, compressed RLE (also where
    polygons would fill holes), for a crowd uncompressed RLE."""
    if crowd:
        runs = np.flatnonzero(np.diff(np.r_[0, mask.ravel(order="F"), 0]))
        counts = {"size": list(mask.shape), "counts": np.diff(np.r_[0, runs, mask.size]).tolist()}
        return counts, coco_mask.frPyObjects(counts, *mask.shape)
    lines = contourpy.contour_generator(z=np.pad(mask, 1).astype(float)).lines(.5)  # x, y, padded by 1
    # twice the signed areas: outlines run one way, holes the other; pixel centres lie at + .5
    signed = np.array([np.sum(a[:-1, 0] * a[1:, 1] - a[1:, 0] * a[:-1, 1]) for a in lines])
    outer = signed * np.sign(signed[np.abs(signed).argmax()]) > 8
    if rle or abs(np.abs(signed[outer]).sum() / 2 - mask.sum()) > .03 * mask.sum():
        code = coco_mask.encode(np.asfortranarray(mask, np.uint8))
        return {"size": code["size"], "counts": code["counts"].decode()}, code
    polygons = [np.round(a[:-1] - .5, 1).ravel().tolist() for a, is_outer in zip(lines, outer) if is_outer]
    return polygons, coco_mask.merge(coco_mask.frPyObjects(polygons, *mask.shape))


def annotate(scene: Scene, image_id: int, first_id: int) -> list:
    """COCO annotations of what is visible; objects of fewer than 80 visible pixels are left out."""
    annotations = []
    for number, thing in enumerate(scene.objects, 1):
        mask = scene.ids == number
        if mask.sum() >= 80:
            identity = first_id + len(annotations)
            crowd = identity % 400 == 7
            form, code = segmentation(mask, crowd, rle=identity % 5 == 0)
            annotations.append(dict(
                id=identity, image_id=image_id, category_id=KINDS[thing["name"]].coco, iscrowd=int(crowd),
                segmentation=form, area=float(coco_mask.area(code)), bbox=coco_mask.toBbox(code).tolist()))
    return annotations


def fill_salicon(part: Path, n_train: int, n_val: int, seed: int, planted: bool):
    """images/, fixations_{train,val}2014.json, and annotations/ of the same pictures for coco/."""
    (part / "images").mkdir()
    (part / "annotations").mkdir()
    for split, n, first_id in (("train", n_train, 100_000), ("val", n_val, 200_000)):
        offset = seed + SEED_OF[f"salicon_{split}"]
        images, gaze, objects = [], [], []
        for index in tqdm(range(n), unit=" pictures"):
            scene, image_id = crowded_scene(offset, index), first_id + index
            name = f"COCO_{split}2014_{image_id:012d}.jpg"
            Image.fromarray(scene.image).save(part / "images" / name, quality=90)
            images.append(dict(id=image_id, file_name=name, height=480, width=640, license=1))
            objects += annotate(scene, image_id, len(objects) + 1)
            rng = np.random.default_rng([offset, index, 2])
            samples = worker_samples(preference(scene, planted), rng, planted)
            for worker, points in enumerate(samples, 1):
                gaze.append(dict(id=len(gaze) + 1, image_id=image_id, worker_id=worker, fixations=points))
        shared = dict(info=dict(description="demo world", version=str(VERSION)), images=images,
                      licenses=[dict(id=1, name="none", url="")])
        fixations = {**shared, "type": "fixations", "annotations": gaze}
        instances = {**shared, "annotations": objects, "categories": COCO_CATEGORIES}
        (part / f"fixations_{split}2014.json").write_text(json.dumps(fixations))
        (part / "annotations" / f"instances_{split}2014.json").write_text(json.dumps(instances))


# ---------------------------------------------------------------- videos
def draw_actor(image, ids, number: int, name: str, x, phase, scale, t: float, look) -> dict:
    """Paints a figure at t (s), in place; a person walks and talks now and then. Returns its key points."""
    img_h, tall, pose = VIDEO_SIZE[0], .75, {}
    if name == "person":
        talks = np.sin(1.3 * t + phase) > -.3
        tall, pose = 1.05, dict(walk=4 * t + phase, mouth=max(0., np.sin(9 * t + phase)) if talks else 0.)
    y = img_h * .96 - scale * tall + 2 * np.sin(8 * t + phase)
    shape = build(name, look, **pose)
    shadow(image, x, img_h * .955, .6 * scale, .08 * scale)
    return paint(image, ids, number, shape, (x, y), scale, look, .03 * np.sin(2 * t + phase))


def film(seed: int, clip: int) -> tuple[np.ndarray, dict, list]:
    """One clip: frames (T, img_h, img_w, 3); masks face, body, ground (T, img_h, img_w) bool; key points
    [(frame, part, row, col)]. One person, in every second clip two, in every third an animal besides."""
    rng, (img_h, img_w) = np.random.default_rng([seed, clip]), VIDEO_SIZE
    horizon = rng.uniform(.4, .6)
    still = background(rng, img_h, img_w, horizon)
    names = [["person"], ["person", "person"], ["person", "sheep"],
             ["person", "person"], ["person"], ["person", "person", "cat"]][clip % 6]
    starts = [(k + rng.uniform(.25, .75)) * img_w / len(names) for k in range(len(names))]
    speeds, phases = rng.uniform(-18, 18, len(names)), rng.uniform(0, 6, len(names))  # px/s, rad
    scales = [rng.uniform(82, 100) if name == "person" else rng.uniform(48, 60) for name in names]
    rows, cols = np.mgrid[:img_h, :img_w]
    frames, faces, all_ids, points = [], [], [], []
    for frame in range(FRAMES):
        t = frame / FPS
        image, ids, face = still.copy(), np.zeros(VIDEO_SIZE, np.int32), np.zeros(VIDEO_SIZE, bool)
        for k, (name, scale) in enumerate(zip(names, scales)):
            look = np.random.default_rng([seed, clip, k])  # the same figure in every frame
            x = starts[k] + speeds[k] * (t - 1.5)
            keys = draw_actor(image, ids, k + 1, name, x, phases[k], scale, t, look)
            row, col = keys["head"]
            face &= ids <= k  # but what the new figure hides
            if name == "person":
                near = ((rows - row) / (.27 * scale)) ** 2 + ((cols - col) / (.22 * scale)) ** 2 <= 1
                face |= near & (ids == k + 1)
            kind = "" if name == "person" else "animal_"
            points += [(frame, kind + ("eyes" if p[:3] == "eye" else p), *keys[p]) for p in keys]
        frames.append(finish(image, np.random.default_rng([seed, clip, 99])))
        faces.append(face)
        all_ids.append(ids)
    face, ids = np.stack(faces), np.stack(all_ids)  # (T, img_h, img_w)
    ground = (ids == 0) & (rows > horizon * img_h)
    return np.stack(frames), dict(face=face, body=(ids > 0) & ~face, ground=ground), points


def target_track(tracks: dict, group: str, rng: np.random.Generator, planted: bool) -> np.ndarray:
    """Where the next fixation's target is in every frame, (T, 2) row, col; targets drawn by VIEWER_SHARES."""
    target = rng.choice(4, p=VIEWER_SHARES[group]) if planted else 3
    figure = rng.integers(len(tracks["head"]))
    place = rng.random(2) * VIDEO_SIZE
    if target == 0:
        return tracks["eyes"][2 * figure + rng.integers(2)]
    if target == 1:
        return tracks["mouth"][figure]
    if target == 2:
        return tracks["head"][figure] + rng.uniform((60, -12), (130, 12))  # trunk and legs
    return np.tile(place, (FRAMES, 1))


def viewer_gaze(points: list, group: str, rng: np.random.Generator, planted: bool) -> list:
    """One viewer's samples (t_s, x_px, y_px), "" where missing (a blink): fixations of 0.2-0.6 s that follow
    their target with a lag; planted=False: fixations anywhere."""
    img_h, img_w = VIDEO_SIZE
    tracks = {}  # part -> (how many, T, 2) row, col
    for kind in ("head", "eyes", "mouth"):
        places = np.array([(row, col) for _, part, row, col in points if part == kind])
        tracks[kind] = places.reshape(FRAMES, -1, 2).swapaxes(0, 1)
    offset = rng.normal(0, VIEWER_SD, 2)
    samples, n = [], FRAMES * SAMPLE_HZ // FPS
    while len(samples) < n:
        track = target_track(tracks, group, rng, planted)
        blink = rng.random() < .04
        for _ in range(min(int(rng.uniform(.2, .6) * SAMPLE_HZ), n - len(samples))):
            t = len(samples) / SAMPLE_HZ
            aim = track[int(np.clip((t - GAZE_LAG) * FPS, 0, FRAMES - 1))]
            row, col = aim + offset + rng.normal(0, GAZE_SD, 2)
            if blink or not (0 <= row < img_h and 0 <= col < img_w):
                samples.append((f"{t:.4f}", "", ""))
            else:
                samples.append((f"{t:.4f}", f"{col:.1f}", f"{row:.1f}"))
    return samples


def save_video(path: Path, frames: np.ndarray):
    """H.264 of (T, img_h, img_w, 3) uint8. mbtree=0: x264's tree differs between calls."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "18", "x264-params": "mbtree=0"},
                                 pix_fmt="yuv420p", height=frames.shape[1], width=frames.shape[2],
                                 bit_rate=2_000_000, thread_count=1)
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())


def fill_videos(part: Path, seed: int, planted: bool):
    """clips/NAME.mp4; gaze/NAME.csv (viewer, t_s, x_px, y_px); keypoints/NAME.csv (frame from 0, part, x_px,
    y_px; parts eyes, mouth, head, animal_...; a row for each eye); masks/NAME.npz; viewers.csv, clips.csv."""
    viewers = [(f"{group}{k:02d}", group) for group, n in VIEWERS.items() for k in range(n)]
    names = [f"clip{clip + 1:02d}" for clip in range(CLIPS)]
    (part / "clips").mkdir()
    (part / "masks").mkdir()
    for clip, name in enumerate(tqdm(names, unit=" clips")):
        frames, masks, points = film(seed, clip)
        save_video(part / "clips" / f"{name}.mp4", frames)
        np.savez_compressed(part / "masks" / f"{name}.npz", **masks)
        keys = [(frame, kind, f"{col:.1f}", f"{row:.1f}") for frame, kind, row, col in points]
        write_csv(part / "keypoints" / f"{name}.csv", "frame part x_px y_px", keys)
        gaze = []
        for k, (viewer, group) in enumerate(viewers):
            samples = viewer_gaze(points, group, np.random.default_rng([seed, clip, k, 3]), planted)
            gaze += [(viewer, *sample) for sample in samples]
        write_csv(part / "gaze" / f"{name}.csv", "viewer t_s x_px y_px", gaze)
    write_csv(part / "viewers.csv", "viewer group", viewers)
    genres = ("drama", "animation", "nature") * CLIPS
    write_csv(part / "clips.csv", "clip genre", list(zip(names, genres)))


# ---------------------------------------------------------------- still objects
def still_object(seed: int, index: int) -> Scene:
    """A bag (index 0-9) or a jar (10-19) on white."""
    rng = np.random.default_rng([seed, index])
    image, ids = np.full((3, *OBJECT_SIZE), 250, np.float32), np.zeros(OBJECT_SIZE, np.int32)
    name = "bag" if index < 10 else "jar"
    shape = build(name, rng)
    centre = OBJECT_SIZE[1] / 2 + rng.uniform(-25, 25), OBJECT_SIZE[0] * .55 + rng.uniform(-20, 20)
    keys = paint(image, ids, 1, shape, centre, rng.uniform(140, 165), rng, rng.uniform(-.06, .06))
    picture = np.clip(image, 0, 255).astype(np.uint8).transpose(1, 2, 0)
    return Scene(picture, ids, [dict(name=name, mask=ids == 1, points=keys)])


def object_fixations(thing: dict, rng: np.random.Generator, planted: bool) -> tuple[np.ndarray, np.ndarray]:
    """One participant's fixations of a still object (n, 2) row, col and their durations (n,) s."""
    keys = np.array(list(thing["points"].values()))  # (2, 2) row, col
    anywhere = thing["mask"] if planted else np.ones(OBJECT_SIZE)
    n = rng.integers(8, 15)
    fixations = draw_fixations(anywhere / anywhere.sum(), n, rng)
    on_part = rng.random(n) < PART_SHARE
    aimed = keys[rng.integers(len(keys), size=n)] + rng.normal(0, PART_SD, (n, 2))
    seconds = rng.gamma(6, .045, n)
    if planted:
        fixations[on_part] = aimed[on_part]
        seconds[on_part] *= 1.2
    return fixations.clip(0, np.array(OBJECT_SIZE) - 1), seconds


def fill_objects(part: Path, seed: int, planted: bool):
    """images/*.png and fixations.csv (participant, image, x_px, y_px, duration_s)."""
    (part / "images").mkdir()
    rows = []
    for index in range(20):
        scene = still_object(seed, index)
        thing = scene.objects[0]
        name = f"{thing['name']}{index % 10 + 1:02d}.png"
        Image.fromarray(scene.image).save(part / "images" / name)
        for participant in range(PARTICIPANTS):
            rng = np.random.default_rng([seed, index, participant, 4])
            for (row, col), seconds in zip(*object_fixations(thing, rng, planted)):
                rows.append((f"p{participant + 1:02d}", name, f"{col:.1f}", f"{row:.1f}", f"{seconds:.3f}"))
    write_csv(part / "fixations.csv", "participant image x_px y_px duration_s", rows)


# ---------------------------------------------------------------- the world
def demo_world(cache_dir: Path | None = None, n_train: int = 1200, n_val: int = 600, planted: bool = True,
               seed: int = 0, parts: tuple = PARTS, n_salicon: tuple = (240, 120), n_objectnet: int = 8,
               workers: int = 1) -> Path:
    """Writes the parts asked for, if they are not there, and returns the world's folder cache_dir/<tag>.

    parts: "imagenet" is imagenet/val, "training" imagenet/train. cache_dir: default runs/demo_world. n_train,
    n_val: pictures of imagenet; n_salicon: (train, val); n_objectnet: pictures a class; planted: whether
    observers have preferences; workers: processes that draw imagenet.
    """
    for part in parts:
        if part not in PARTS:
            raise InputError(f"unknown part {part!r}; expected some of {', '.join(PARTS)}.")
    tag = (f"v{VERSION}_seed{seed}_{'planted' if planted else 'null'}_i{n_train}-{n_val}_o{n_objectnet}"
           f"_s{n_salicon[0]}-{n_salicon[1]}")
    root = Path(cache_dir or Path(__file__).resolve().parents[1] / "runs" / "demo_world") / tag
    first = 10_000 * seed
    if "training" in parts:
        write_imagenet(root / "imagenet", "train", n_train, first + SEED_OF["train"], workers)
    if "imagenet" in parts:
        write_imagenet(root / "imagenet", "val", n_val, first + SEED_OF["val"], workers)
    if "objectnet" in parts:
        write_once(root / "objectnet", fill_objectnet, n=n_objectnet, seed=first + SEED_OF["objectnet"])
    if "salicon" in parts:
        asked = dict(n_train=n_salicon[0], n_val=n_salicon[1], seed=first, planted=planted)
        salicon = write_once(root / "salicon", fill_salicon, **asked)
        write_once(root / "coco", lambda part, **_: shutil.copytree(
            salicon / "annotations", part / "annotations"), **asked)
    if "videos" in parts:
        write_once(root / "videos", fill_videos, seed=first + SEED_OF["videos"], planted=planted)
    if "objects" in parts:
        write_once(root / "objects", fill_objects, seed=first + SEED_OF["objects"], planted=planted)
    return root
