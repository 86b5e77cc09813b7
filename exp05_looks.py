"""exp05: what there is to look at in a video (key points, masks), and how often someone looks at it.

N2010's key points come from its own files: allclip1.mat holds where the 18 points of a scene are in every
frame, eyeclip_annotation.txt what each is. Other videos: keypoints/NAME.csv and masks/NAME.npz.
Shapes: T frames of a scene, S gaze samples, P key points. Gaze is x, y in px.
"""
from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io

from common import InputError, input_errors
from data import read_csv
from exp05_data import Watched, viewers_of
from exp05_frames import Clip

SIGMA = 30.  # px, how far from a key point one still looks at it (authors' code)
POINT_PARTS = ("eyes", "mouth", "face", "animal_eyes", "animal_mouth", "animal_face")
PARTS = (*POINT_PARTS, "body", "ground")
KINDS = ("subj", "eye", "mouth", "face")  # of the words of N2010's annotation
N2010_REGIONS, N2010_COURSE = (3, 7, 11), 4  # scenes whose parts, and whose two faces, the paper counts


class Scene(NamedTuple):
    """A clip, or a scene of N2010, with its viewers and what there is to look at."""
    name: str
    watched: Watched
    traces: np.ndarray  # (T, C, 2), where heads and GBVS look
    points: np.ndarray  # (T, P, 2), NaN where absent
    parts: dict[str, np.ndarray]  # (P,) bool each: which points are of the part
    sides: np.ndarray  # (T, P), 1: of the left one of two faces, -1: of the right one, 0: of neither
    masks: dict[str, np.ndarray]  # of body and ground (T, img_h, img_w)


# -------------------------------------------------------------------------------- key points and masks

def key_points(path: Path, n_frames: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """keypoints/NAME.csv: points (T, P, 2), NaN where absent; parts {name: (P,)}. The k-th row of a part in a
    frame is that part's k-th point; one that is absent for a while keeps its row, with x and y empty. Heads,
    which hold eyes and mouth, are left out. InputError: other parts, columns or values."""
    found, count = {}, {}
    with input_errors(path, f"columns frame (from 0), part ({', '.join(POINT_PARTS)}, ...head), x_px, y_px"):
        for row in read_csv(path, ["part"], ["frame", "x_px", "y_px"]):
            if row["part"].endswith("head") or not 0 <= row["frame"] < n_frames:
                continue
            if row["part"] not in POINT_PARTS:
                raise ValueError(f"part '{row['part']}' of frame {row['frame']:g}")
            t = int(row["frame"])
            count[t, row["part"]] = count.get((t, row["part"]), -1) + 1
            xy = [np.nan if row[k] == "" else float(row[k]) for k in ("x_px", "y_px")]
            found[t, (row["part"], count[t, row["part"]])] = xy
    columns = sorted({column for _, column in found})
    points = np.full((n_frames, len(columns), 2), np.nan)
    for (t, column), xy in found.items():
        points[t, columns.index(column)] = xy
    return points, parts_of([part for part, _ in columns])


def parts_of(names: Sequence[str]) -> dict[str, np.ndarray]:
    """{part: which of the points (P,) are of it}; a face is its eyes and its mouth."""
    parts = {part: np.array([name == part for name in names], bool) for part in POINT_PARTS}
    for who in ("", "animal_"):
        parts[f"{who}face"] |= parts[f"{who}eyes"] | parts[f"{who}mouth"]
    return parts


def animal_points(clip: Clip, n: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Eyes and mouths of Animal Parts' first n images, as `key_points` gives a table's: (n, P, 2), parts."""
    most = max(len(animal.eyes) for animal in clip.animals)
    points = np.full((len(clip.animals), most + 1, 2), np.nan)
    for t, animal in enumerate(clip.animals):
        points[t, :len(animal.eyes)], points[t, -1] = animal.eyes, animal.mouth
    return points[:n], parts_of(["animal_eyes"] * most + ["animal_mouth"])


def face_sides(points: np.ndarray, parts: dict[str, np.ndarray]) -> np.ndarray:
    """Sides of the faces' points (T, P): in frames with exactly two mouths a point belongs to the nearer."""
    sides, mouths = np.zeros(points.shape[:2], int), points[:, parts["mouth"]]  # (T, M, 2)
    there = np.isfinite(mouths[..., 0])
    for t in np.flatnonzero(there.sum(1) == 2):
        two = mouths[t, there[t]]
        left, right = two[two[:, 0].argsort()]
        nearer_left = np.square(points[t] - left).sum(1) <= np.square(points[t] - right).sum(1)
        sides[t] = parts["face"] * np.where(nearer_left, 1, -1)
    return sides


def read_masks(path: Path, n_frames: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """masks/NAME.npz: {"body", "ground": (T, img_h, img_w)}, of the first T frames."""
    masks = {}
    with input_errors(path, "arrays body and ground: frames x img_h x img_w"), \
            np.load(path, allow_pickle=False) as arrays:
        for part in ("body", "ground"):
            masks[part] = arrays[part][:n_frames]
            if masks[part].shape != (n_frames, *size):
                raise ValueError(f"{part} has shape {masks[part].shape}, its clip {(n_frames, *size)}")
    return masks


def check_tables(watched: Sequence[Watched]) -> None:
    """Reads every clip's key points and masks before its frames are measured. InputError: they are wrong."""
    for w in watched:
        if w.clip.points and not w.clip.annotation:
            key_points(w.clip.points, len(w.times))
        if w.clip.masks:
            read_masks(w.clip.masks, len(w.times), w.size)


# -------------------------------------------------------------------------------- N2010

class Annotated(NamedTuple):
    """A scene of N2010 as its annotation describes it; kinds: what each key point is, (P,) a word."""
    start: int  # its first frame, from 0
    end: int  # the frame after its last
    kinds: dict[str, np.ndarray]  # subj: number of a person; eye, mouth, face: above 0 if it is one


def read_annotation(path: Path) -> dict[int, Annotated]:
    """N2010's eyeclip_annotation.txt: {number of the scene: what it holds}.

    Scenes are blocks divided by a line of one space. A block begins with '%3 NAME [327 539]': its number, its
    first and last frame, counted from 1. Two lines a key point follow, in the order of the rows of xx_all:
    its name in quotes; subj=1 obj=0 eye=1 mouth=0 nose=0 ear=0 face=1 hand=0. InputError: another layout.
    """
    scenes = {}
    with input_errors(path, "N2010's annotation: '%3 NAME [327 539]', then two lines for every key point"):
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line]
        for block in re.split(r"\n{2,}", "\n".join(lines).strip("\n")):
            head, *points = block.split("\n")
            found = re.match(r"'?%(\d+)\s.*\[(\d+)\s+(\d+)\]", head)
            if not found or len(points) % 2:
                raise ValueError(f"a block of {1 + len(points)} lines that begins with {head[:40]!r}")
            number, first, last = map(int, found.groups())
            words = [dict(re.findall(r"(\w+)=(\d+)", line)) for line in points[1::2]]
            kinds = {key: np.array([int(word[key]) for word in words]) for key in KINDS}
            scenes[number] = Annotated(first - 1, last, kinds)
        missing = {*N2010_REGIONS, N2010_COURSE} - scenes.keys()
        if missing:
            raise ValueError(f"no scene {min(missing)}")
    return scenes


def n2010_scene(number: int, scene: Annotated, xy: np.ndarray, w: Watched, traces: np.ndarray) -> Scene:
    """A scene of N2010 that the paper counts; xy (frames, 18, 2), w and traces of the whole video.

    A missing sample counts as a look at nothing, infinitely far from everything, as in the authors' code.
    Scenes 3 and 11 end with a frame that counts as blank (see BLANK); it is left out for everyone.
    """
    start, end, kinds = scene
    n = len(kinds["subj"])
    if n > xy.shape[1] or end > len(xy):
        raise InputError(f"N2010's annotation has {n} key points up to frame {end} in scene {number}; "
                         f"allclip1.mat has {xy.shape[1]} in {len(xy)} frames.")
    parts = {"eyes": kinds["eye"] > 0, "mouth": kinds["mouth"] > 0, "face": kinds["face"] > 0}  # (P,) each
    sides = np.zeros(n)
    if number == N2010_COURSE:  # counts for its two faces alone; the left one is named first
        people = list(dict.fromkeys(kinds["subj"][parts["face"]]))
        if len(people) != 2:
            raise InputError(f"N2010's annotation: {len(people)} people with faces in scene {number}, not 2.")
        sides = parts["face"] * np.where(kinds["subj"] == people[0], 1, -1)
        parts = {}
    now = (w.frame >= start) & (w.frame < end) & ~np.isin(w.frame, w.clip.blank)  # (S,)
    gaze = np.where(np.isnan(w.gaze[:, now]), np.inf, w.gaze[:, now])
    here = w._replace(times=w.times[start:end], gaze=gaze, frame=w.frame[now] - start)
    frames = len(here.times)  # fewer than the scene's with --limit
    return Scene(f"{w.clip.name}, scene {number}", here, traces[start:end], xy[start:start + frames, :n],
                 parts, np.tile(sides, (frames, 1)), {})


def n2010_scenes(w: Watched, traces: np.ndarray) -> list[Scene]:
    """Scenes 3, 7 and 11, whose parts the paper counts, and scene 4, whose two faces it compares over time.
    InputError: no key points, no annotation or another one."""
    annotation = read_annotation(w.clip.annotation)
    with input_errors(w.clip.points, "xx_all and yy_all: key points x frames, px"):
        mat = scipy.io.loadmat(w.clip.points, variable_names=["xx_all", "yy_all"])
        xy = np.stack([mat["xx_all"].T, mat["yy_all"].T], -1).astype(float)  # (frames, 18, 2)
    counted = sorted((*N2010_REGIONS, N2010_COURSE))
    shown = [number for number in counted if annotation[number].start < len(w.times)]  # with --limit
    return [n2010_scene(number, annotation[number], xy, w, traces) for number in shown]


def load_scenes(arrays: dict[str, np.ndarray], clips: Sequence[Clip]) -> tuple[list[Scene], list[str]]:
    """What was to be seen in the clips of a run (its arrays), and sentences on what could not be read."""
    scenes, unread = [], []
    for clip in [clip for clip in clips if f"gaze/{clip.name}" in arrays]:
        times, size = arrays[f"times/{clip.name}"], tuple(arrays[f"size/{clip.name}"].tolist())
        w = Watched(clip, times, size, *viewers_of(clip, times, size, False, []))
        traces, masks = arrays[f"gaze/{clip.name}"], {}
        points, parts = np.empty((len(times), 0, 2)), parts_of([])
        if clip.annotation:
            try:
                scenes += n2010_scenes(w, traces)
                continue
            except InputError as e:
                unread.append(str(e))
        elif clip.animals:
            points, parts = animal_points(clip, len(times))
        elif clip.points:
            points, parts = key_points(clip.points, len(times))
        if clip.masks:
            masks = read_masks(clip.masks, len(times), size)
        scenes.append(Scene(clip.name, w, traces, points, parts, face_sides(points, parts), masks))
    return scenes, unread


# -------------------------------------------------------------------------------- shares of looks

def viewing_proportion(gaze: np.ndarray, points: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """How much of each look goes to each key point: gaze (..., 2), points (..., P, 2) -> (..., P).

    exp(-distance^2 / (2 sigma^2)); where these sum to more than 1 over the points, they are divided by their
    sum. An absent point (NaN) gets 0; all are NaN where gaze is NaN, and 0 where it is infinitely far.
    """
    w = np.exp(np.square(gaze[..., None, :] - points).sum(-1) / (-2 * sigma**2))
    w = np.where(np.isnan(points[..., 0]), np.where(np.isnan(gaze[..., :1]), np.nan, 0), w)
    return w / np.maximum(w.sum(-1, keepdims=True), 1)


def part_shares(gaze: np.ndarray, points: np.ndarray, parts: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of the looks (S, 2) at each part in %; points (S, P, 2), parts {name: (P,)}. NaN: no such part.

    Each point's share is its mean over the samples in which this point exists, a part's is the sum over its
    points, as the authors count. (Where a point is absent their code moves the weights of all points after it
    up by one; ours does not.) Key points of animals are of other animals in every picture: the sum over the
    points first, then the mean over the pictures.
    """
    w, shares = viewing_proportion(gaze, points), {}  # (S, P)
    there = np.isfinite(points[..., 0]) & ~np.isnan(gaze[:, :1])  # (S, P)
    for part, mine in parts.items():
        mine_there, total = there[:, mine], np.where(there, w, 0)[:, mine]  # (S, points of the part)
        if part.startswith("animal"):
            mine_there, total = mine_there.any(1, keepdims=True), total.sum(1, keepdims=True)
        n = mine_there.sum(0)  # samples in which each point exists
        shares[part] = float(100 * (total.sum(0)[n > 0] / n[n > 0]).sum()) if n.any() else np.nan
    return shares


def mask_shares(gaze: np.ndarray, frame: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of the looks (S, 2) inside each mask (T, img_h, img_w) in %; frame (S,)."""
    seen = np.isfinite(gaze[:, 0])
    x, y = gaze[seen].astype(int).T
    return {part: float(100 * mask[frame[seen], y, x].mean()) for part, mask in masks.items() if seen.any()}


def left_minus_right(gaze: np.ndarray, points: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Share of looks (..., S, 2) at the left face less that at the right one: (..., S), NaN where there are
    no two faces. points (S, P, 2), sides (S, P)."""
    difference = (viewing_proportion(gaze, points) * sides).sum(-1)  # (..., S)
    return np.where(sides.any(-1), difference, np.nan)
