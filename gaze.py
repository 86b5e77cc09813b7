"""Where people looked: SALICON, OSIE, COCO-FreeView and COCO-Search18 as distributed, and whether coordinates
of any source are pixels. Fixations are 0-based pixels, row before column.
"""
from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io
import torch
from PIL import Image, ImageOps

from common import InputError, generator, input_errors, scale_fixations
from data import IMAGE_SUFFIXES, MAP_SIZE, entries, gaze_files, plain_name, read_csv

SALICON_SIZE = (480, 640)  # px, every SALICON image
OSIE_SIZE = (600, 800)  # px, every OSIE image
SAME_SHAPE = .02  # by which the aspect of a picture may differ from the one that people saw
OSIE_TEST = 2 / 7  # share of OSIE's images that are held out; the data set has no split of its own
DISPLAY_SIZE = (1050, 1680)  # px, the display of COCO-FreeView and COCO-Search18
LOST = .01  # share of gaze at exactly (0, 0) that raises suspicion (our choice)
OUTSIDE, TWENTIETH, FEWEST = .2, .05, 20  # of `check_units` (our choice)

# -------------------------------------------------------------------------------- units

def zero_note(share: float) -> list[str]:
    """A note, if more than LOST of the gaze is at exactly (0, 0)."""
    found = (f"{share:.1%} of the gaze is at exactly (0, 0), which some trackers write when they lose the "
             "eye; --lost-at-zero makes it missing")
    return [found] if share > LOST else []


def with_size(xy: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Coordinates (n, 2) x, y beside the size (img_h, img_w) of their picture: (n, 4) x, y, img_w, img_h."""
    return np.column_stack([xy, np.broadcast_to(size[::-1], np.shape(xy))])


def check_units(where: Path | str, looks: Sequence[tuple[str, str, np.ndarray]],
                most_outside: float = OUTSIDE, names: str = "x_px and y_px") -> None:
    """InputError: the gaze of all viewers together, of one of them, or on one picture or clip, is hardly in
    px of its pictures from the top left; it says which unit it looks like and what to multiply. looks:
    (viewer, picture or clip, `with_size`, NaN where missing). most_outside: share that may lie off them."""
    viewers: dict[str, list] = {}
    pictures: dict[str, list] = {}
    for viewer, picture, points in looks:
        viewers.setdefault(viewer, []).append(points)
        pictures.setdefault(picture, []).append(points)
    everyone = np.concatenate([np.empty((0, 4)), *[points for *_, points in looks]])
    found = [("all viewers", everyone, unlikely_place(everyone, most_outside))]
    for viewer, some in viewers.items():
        points = np.concatenate(some)
        found.append((f"viewer {viewer}", points, other_unit(points)))
    for picture, some in pictures.items():
        points = np.concatenate(some)
        found.append((f"all viewers on {picture}", points, other_unit(points) or outside(points, .5)))
    for who, points, fault in found:
        if fault:
            points = points[np.isfinite(points).all(1)]
            (left, top), (right, bottom) = points[:, :2].min(0), points[:, :2].max(0)
            img_w, img_h = points[0, 2:]
            first = points[(points[:, 2:] == points[0, 2:]).all(1), :2]  # and of others as large
            hint = " ".join(place_hints(first, (img_h, img_w), names))
            raise InputError(f"{where}: the gaze of {who}, x {left:g} to {right:g}, y {top:g} to {bottom:g}, "
                             f"lies {fault}; expected {names} in px of the pictures, the first of "
                             f"{img_w:g}x{img_h:g}. {hint}".rstrip())


def is_share(high: np.ndarray, n: int) -> bool:
    """Whether n coordinates that reach `high`, (2,) x, y, are shares of a picture; of FEWEST or more, whether
    one of the two is."""
    return 0 < high.max() <= 1 or n >= FEWEST and 0 < high.min() <= 1


def on_pictures(points: np.ndarray) -> np.ndarray:
    """Which points (n, 4) of `with_size` lie on their pictures, (n,) bool."""
    return ((points[:, :2] >= 0) & (points[:, :2] < points[:, 2:])).all(1)


def outside(points: np.ndarray, most: float) -> str:
    """Where points lie, if they are FEWEST or more and a larger share than `most` is off its pictures."""
    points = points[np.isfinite(points).all(1)]
    share = 1 - on_pictures(points).mean() if len(points) >= FEWEST else 0
    return f"for {share:.0%} outside of the pictures" if share > most else ""


def unlikely_place(points: np.ndarray, most_outside: float) -> str:
    """Where all gaze lies, if hardly any data set's does: more than `most_outside` off its pictures; 99 % of
    the rest within 1 px of the corner (`is_share`); of FEWEST or more, 99 % in the top left quarter, or 98 %
    within a TWENTIETH of the pictures' width and height. Else "". points: see `with_size`."""
    points = points[np.isfinite(points).all(1)]
    on = on_pictures(points)
    if (~on).sum() > most_outside * len(on):
        return f"for {1 - on.mean():.0%} outside of the pictures"
    xy, shares = points[on, :2], points[on, :2] / points[on, 2:]
    if len(xy) and is_share(np.quantile(xy, .99, axis=0), len(xy)):
        return "within 1 px of the corner"
    if len(xy) < FEWEST:
        return ""
    low, high = np.quantile(shares, (.01, .99), axis=0)  # (2,) each
    if (high < .5).all():
        return "all in their top left quarter"
    return "all within a twentieth of their width and height" if (high - low < TWENTIETH).all() else ""


def other_unit(points: np.ndarray) -> str:
    """Where the gaze of one viewer or on one picture lies, if it looks like shares or, of FEWEST points or
    more, like percent. Else ""."""
    points = points[np.isfinite(points).all(1)]
    if not len(points):
        return ""
    high = np.quantile(points[:, :2], .99, axis=0)
    if is_share(high, len(points)):
        return "within 1 px of the corner"
    is_percent = (high > 50).all() and (high <= 100).all() and (high < points[:, 2:].min(0) / 2).all()
    return "all in their top left quarter" if is_percent and len(points) >= FEWEST else ""


def place_hints(xy: np.ndarray, size: Sequence[float], names: str = "x_px and y_px") -> list[str]:
    """Which unit coordinates (n, 2) of a picture of `size` (img_h, img_w) look like, and what to multiply
    them by or to add; nothing, if none. The outermost 5 %, as signs of a lost eye, do not count."""
    xy, (img_h, img_w) = xy[np.isfinite(xy).all(1)], size
    if not len(xy):
        return []
    low, high = np.quantile(xy, (.05, .95), axis=0)  # (2,) each
    if (xy == 0).all():
        return ["All are 0, as where a tracker lost the eye: --lost-at-zero makes them missing."]
    if (high <= 1).all() and (low >= 0).all():
        return [f"{names} look like shares of the picture: multiply them by {img_w:g} and {img_h:g}."]
    for name, side, least, most in zip(names.split(" and "), (img_w, img_h), low, high):
        if 0 <= least and 0 < most <= 1:
            return [f"{name} looks like shares of the picture: multiply it by {side:g}."]
    if (low < -.2 * high).all() and (high - low < np.array([img_w, img_h]) / 5).all():
        return [f"{names} look counted from the centre, in degrees or another unit: convert them to px, "
                f"then add {img_w / 2:g} and {img_h / 2:g}."]
    if (low < -.2 * high).all():
        return [f"{names} look counted from the centre: add {img_w / 2:g} and {img_h / 2:g}."]
    if (high <= 100).all() and (low >= 0).all() and min(size) > 100:
        return [f"{names} look like %: multiply them by {img_w / 100:g} and {img_h / 100:g}."]
    if (high > size[::-1]).any():
        return [f"{names} go to {high[0]:.0f} and {high[1]:.0f}, as px of a larger display: take off the "
                f"margin left of and above the picture there, multiply by {img_w:g} / its width there."]
    if (high < np.array([img_w, img_h]) / 2).all():
        return [f"{names} go to {high[0]:.0f} and {high[1]:.0f}: of a smaller picture? multiply by {img_w:g} "
                "/ its width."]
    return []


# -------------------------------------------------------------------------------- pictures

def picture_size(path: Path) -> tuple[int, int] | None:
    """(img_h, img_w) of a picture as displayed; None if it cannot be read (it is left out later)."""
    with suppress(InputError), input_errors(path, "a picture"), Image.open(path) as image:
        ImageOps.exif_transpose(image, in_place=True)
        return image.height, image.width
    return None


def same_shape(a: Sequence[float], b: Sequence[float]) -> bool:
    """Whether two (img_h, img_w) have the same aspect ratio, but for SAME_SHAPE."""
    return abs(a[0] * b[1] / (a[1] * b[0]) - 1) <= SAME_SHAPE


# -------------------------------------------------------------------------------- data sets

def check_points(points, where: str, size: tuple[int, int] = SALICON_SIZE) -> tuple[np.ndarray, np.ndarray]:
    """One worker's 1-based (row, col) points on an image of `size` px -> 0-based rows and cols; InputError
    for other conventions."""
    with input_errors(where, "fixations in whole pixels counted from 1, each [row, col] (.mat: [x, y])"):
        points = np.asarray(points if len(points) else np.empty((0, 2)), np.float64)  # (n, 2)
        if points.ndim != 2 or points.shape[1] != 2:
            raise ValueError(f"shape {points.shape}")
        low, high = points.min(0, initial=1), points.max(0, initial=1)  # (row, col)
        if (points != np.floor(points)).any():  # NaN is unequal to itself
            raise ValueError("NaN or fractional fixations")
        if (low == 0).any():
            raise ValueError("a coordinate of 0: the file counts from 0, add 1")
        if (high > size).any() and (high[::-1] <= size).all():
            raise ValueError(f"points up to {high} on {size} pixels: rows and columns are swapped")
        if (low < 0).any() or (high > size).any():
            raise ValueError(f"points from {low} to {high}, outside (1, 1) to {size}")
    return points[:, 0] - 1, points[:, 1] - 1


def load_salicon(json_path: str | Path) -> list[tuple]:
    """SALICON's gaze as [(image id, file name, [(rows, cols) per worker], (img_h, img_w))], in file order.

    Reads fixations_{train,val}2014.json ([row, col] samples) or a folder of the per-image .mat release
    (`gaze[].fixations`, [x y]), both 1-based on images of 480 x 640 pixels; a .json of that format may have
    images of other sizes. Returns float64, 0-based: rows 0 to 479, cols 0 to 639; empty arrays for a worker
    without fixations, an empty list for an image without workers. InputError: truncated or empty file,
    missing keys, NaN, fractions, 0-based or swapped points, points off their image.
    Source: Jiang et al., SALICON: Saliency in Context, CVPR 2015.
    """
    def convert(node: dict) -> dict:  # at each closing brace, so one worker's points are lists at a time
        with suppress(KeyError, ValueError, TypeError):  # whose cause check_points explains
            node["fixations"] = np.array(node["fixations"], np.float64)
        return node

    with input_errors(json_path, "SALICON's complete fixations_*2014.json, or its folder of COCO_*.mat"):
        if Path(json_path).is_dir():
            images = [(int(p.stem.split("_")[-1]), p.stem + ".jpg", salicon_mat(p), SALICON_SIZE)
                      for p in entries(Path(json_path), ".mat")]
        else:
            data = json.loads(Path(json_path).read_text(encoding="utf-8"), object_hook=convert)
            images = [(image["id"], image["file_name"], [], (int(image["height"]), int(image["width"])))
                      for image in data["images"]]
            by_id = {image[0]: image for image in images}
            for annotation in data["annotations"]:
                i, name, workers, size = by_id[annotation["image_id"]]
                where = f"{json_path}, {name}, image {i}, worker {annotation.get('worker_id')}"
                workers.append(check_points(annotation["fixations"], where, size))
            if not all(isinstance(image["file_name"], str) for image in data["images"]):
                raise ValueError("a file name that is not text")
        if not any(workers for _, _, workers, _ in images):
            raise ValueError(f"{len(images)} images without any annotation")
    return images


def salicon_mat(path: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    with input_errors(path, "SALICON's .mat file with gaze[].fixations"):
        gaze = np.ravel(scipy.io.loadmat(path, simplify_cells=True)["gaze"])  # dicts; ravel: one comes bare
        points = [np.atleast_2d(worker["fixations"]) for worker in gaze]  # (n, 2) xy, or (1, 0) when empty
        return [check_points(xy[:, ::-1] if xy.size else [], f"{path}, gaze({i})")
                for i, xy in enumerate(points, 1)]


def load_osie(mat_path: str | Path) -> list[tuple[int, str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]]:
    """OSIE's gaze as [(image id, file name, [(rows, cols, durations) per observer])], in the file's order.

    float64, in order of viewing; durations in seconds (the file: ms). fix_x, fix_y have a decimal and are
    1-based: their range (1.2 to 798.8) leaves that open, but the authors' code uses pixel round(x), 1 to 800.
    So cols = x - 0.5, rows = y - 0.5, moved inside 600 x 800: floor() gives the authors' pixel, from 0.
    InputError: missing fields, NaN, unequal lengths.
    Source: Xu et al., Predicting human gaze beyond pixels, Journal of Vision 2014.
    """
    images = []
    with input_errors(mat_path, "OSIE's fixations.mat: img, subjects with finite fix_x, fix_y, fix_duration"):
        for image in np.ravel(scipy.io.loadmat(mat_path, simplify_cells=True)["fixations"]):
            observers = []
            for subject in np.ravel(image["subjects"]):
                fields = [np.ravel(subject[key]) for key in ("fix_y", "fix_x", "fix_duration")]
                y_x_ms = np.array(fields, np.float64)  # (3, n)
                if not np.isfinite(y_x_ms).all():
                    raise ValueError(f"NaN gaze on {image['img']}")
                rows, cols = (y_x_ms[:2] - 0.5).clip(0, [[599.5], [799.5]])  # (n,) each
                observers.append((rows, cols, y_x_ms[2] / 1000))
            images.append((int(Path(image["img"]).stem), image["img"], observers))
    return images


def load_freeview(files: Sequence[Path], split: str) -> list[tuple[str, list[tuple[np.ndarray, np.ndarray]]]]:
    """COCO-FreeView's or COCO-Search18's gaze as [(file name, [(rows, cols) per record])] of a split.

    The files hold a list of records: name, subject, X, Y, split (train or valid). Returns float64 pixels of
    the display, from 0 (our reading), less each record's first, "the initial center fixation" (readme): where
    people looked before there was a picture. InputError: no such list, NaN, X and Y of unequal length,
    another unit (`check_units`, of all splits).
    Source: Chen et al., COCO-Search18, Scientific Reports 2021.
    """
    people: dict[str, list] = {}
    looks = []
    for file in files:
        with input_errors(file, "records with name, X, Y, split, as of COCO-FreeView and COCO-Search18"):
            for record in json.loads(file.read_text(encoding="utf-8")):
                y_x = np.array([record["Y"], record["X"]], np.float64)  # (2, n)
                if not np.isfinite(y_x).all() or not isinstance(record["name"], str):
                    raise ValueError(f"NaN gaze, or a name that is not text: {record['name']}")
                subject = f"{file.name}, subject {record.get('subject')}"
                looks.append((subject, record["name"], with_size(y_x[::-1].T, DISPLAY_SIZE)))
                if record["split"].startswith(split):  # valid is val
                    people.setdefault(record["name"], []).append(tuple(y_x[:, 1:]))
    check_units(files[0], looks, names="X and Y")
    return list(people.items())


def off_the_bars(rows, cols, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of DISPLAY_SIZE -> pixels of a picture of `size` shown on it as large as it fits, between equal
    black bars; fixations on the bars are dropped. Pictures as distributed have the bars in them."""
    scale = min(DISPLAY_SIZE[0] / size[0], DISPLAY_SIZE[1] / size[1])
    rows = (rows - (DISPLAY_SIZE[0] - scale * size[0]) / 2) / scale
    cols = (cols - (DISPLAY_SIZE[1] - scale * size[1]) / 2) / scale
    inside = (rows >= 0) & (rows < size[0]) & (cols >= 0) & (cols < size[1])
    return rows[inside], cols[inside]


Fixations = list[tuple[str, float, float, float]]  # fixations: participant, row, column (px from 0), seconds


def load_fixations(path: Path) -> dict[str, Fixations]:
    """Image name -> Fixations, of a fixations.csv: participant, image, x_px, y_px and, if known, duration_s.
    Empty coordinates become NaN, an empty duration 1. InputError: no such column, no number, no fixation."""
    found: dict[str, Fixations] = {}
    with input_errors(path, "a row for each fixation; duration_s, if there is one, in seconds from 0"):
        for line in read_csv(path, ["participant", "image"], ["x_px", "y_px"], ["duration_s"]):
            row, col = (np.nan if line[key] == "" else line[key] for key in ("y_px", "x_px"))
            seconds = 1. if line.get("duration_s", "") == "" else line["duration_s"]
            found.setdefault(line["image"], []).append((line["participant"], row, col, seconds))
        if not found:
            raise ValueError("no fixation")
    return found


def looks_of(items: Sequence[tuple[Path, Fixations]]) -> list[tuple[str, str, np.ndarray]]:
    """[(participant, picture, `with_size`)] of every fixation on a picture that can be read."""
    looks = []
    for path, fixations in items:
        size = picture_size(path)
        for person, row, col, _ in fixations if size else []:
            looks.append((person, path.name, np.array([[col, row, size[1], size[0]]])))
    return looks


def at_zero(items: Sequence[tuple[Path, Fixations]]) -> float:
    """Share of the fixations at exactly (0, 0)."""
    return np.mean([row == col == 0 for _, fixations in items for _, row, col, _ in fixations])


class GazeImage(NamedTuple):
    """An image and where its observers looked: 0-based pixels of a map of MAP_SIZE. size: (img_h, img_w), the
    picture's, px."""
    name: str
    path: Path
    observers: list[tuple[np.ndarray, np.ndarray]]  # rows, cols, int16
    size: tuple[int, int] = SALICON_SIZE


def read_gaze(folder: Path, split: str) -> list[tuple[str, list, tuple[int, int] | None]]:
    """[(file name, observers, size in px in which the picture was shown)] of the first kind of `gaze_files`
    that is there; size None: on the display of COCO-FreeView. InputError: none is."""
    osie, salicon = folder / "fixations.mat", folder / f"fixations_{split}2014.json"
    if osie.exists():
        return [(name, observers, OSIE_SIZE) for _, name, observers in load_osie(osie)]
    if not salicon.exists() and (folder / "fixations" / split).exists():
        salicon = folder / "fixations" / split
    if salicon.exists():
        return [image[1:] for image in load_salicon(salicon)]
    files = [p for p in gaze_files(folder) if not re.match(r"fixations_\w+2014\.|COCO_", p.name)]
    if files:
        return [(name, observers, None) for name, observers in load_freeview(files, split)]
    found = [p.name for p in entries(folder)[:6]] if folder.is_dir() else "no such folder"
    raise InputError(f"{folder}: {found}; expected SALICON's {salicon.name} (or fixations/{split}/*.mat), "
                     "OSIE's fixations.mat, or COCO-FreeView's *fixations*.json: give that folder.")


def size_of_gaze(path: Path, shown: tuple[int, int] | None) -> tuple[int, int]:
    """(img_h, img_w) in which the gaze on a picture is counted: as shown, or (None) as the picture's own.
    InputError: the picture has another shape, so that people saw another one."""
    own = picture_size(path)
    if shown and own and not same_shape(own, shown):
        raise InputError(f"{path} is {own[0]} x {own[1]} px, its fixations are of a picture of {shown[0]} x "
                         f"{shown[1]}; give the pictures that people saw.")
    return shown or own or DISPLAY_SIZE


def gaze_pictures(folder: Path, coco: str | Path | None, split: str) -> dict[str, Path]:
    """{plain_name: file} of the pictures in the places where such data sets have them."""
    usual = ("stimuli", "images", f"images/{split}", f"{split}2014", split, "train2017", "val2017", "")
    places = [Path(root) / sub for root in (folder, coco) if root for sub in usual]
    places += sorted(folder.glob("**/*images*/*/"))  # COCO-Search18's categories
    return {plain_name(p.name): p for place in reversed(places) if place.is_dir()
            for p in entries(place, *IMAGE_SUFFIXES)}


def load_gaze(folder: str | Path, split: str, coco: str | Path | None = None, limit: int | None = None
              ) -> tuple[list[GazeImage], dict[str, list[str]]]:
    """(images with fixations, {"train, missing", "train, no fixations": names of the others}); train or val.

    folder: with some of `gaze_files`. SALICON's images are in images/, images/<split>/, <split>/ or
    <split>2014/, there or in the COCO folder (of 2014 or 2017); OSIE's in stimuli/, of which a fixed random
    OSIE_TEST is "val"; COCO-FreeView's in images/<category>/, or they are COCO's (see `off_the_bars`). limit:
    the first so many. InputError: no such file, no image left.
    """
    folder = Path(folder)
    gaze = read_gaze(folder, split)
    paths = gaze_pictures(folder, coco, split)
    images, missing, unseen = [], [], []
    for name, observers, shown in gaze:
        path = paths.get(plain_name(name))
        if path is None:
            missing.append(name)
            continue
        size = size_of_gaze(path, shown)
        if shown is None:
            observers = [off_the_bars(*observer, size) for observer in observers]
        points = [scale_fixations(*observer[:2], size, MAP_SIZE) for observer in observers]
        points = [(rows.astype(np.int16), cols.astype(np.int16)) for rows, cols in points]
        if not any(len(rows) for rows, _ in points):
            unseen.append(name)
        else:
            images.append(GazeImage(name, path, points, size))
    if not images:
        raise InputError(f"{folder}: {len(missing)} images without a file {missing[:1]} and {len(unseen)} "
                         f"without fixations, no image left for {split}; add the files, or other fixations.")
    if (folder / "fixations.mat").exists():  # OSIE
        order = torch.randperm(len(images), generator=generator(0)).tolist()
        n = round(OSIE_TEST * len(images))
        images = [images[i] for i in sorted(order[:n] if split == "val" else order[n:])]
    return images[:limit], {f"{split}, missing": missing, f"{split}, no fixations": unseen}
