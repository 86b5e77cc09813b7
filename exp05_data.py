"""What exp05_gaze_video.py and exp05_clusters.py share: videos and where their viewers looked, distances
between gazes, their scaling. The data are in one of three layouts:

    any      clips/NAME.mp4 or clips/NAME/000001.png; gaze/NAME.csv (viewer, t_s, x_px, y_px; empty: missing).
             Optional: viewers.csv (viewer, group), clips.csv (clip, genre, fps), keypoints/NAME.csv (frame
             from 0, part, x_px, y_px; parts eyes, mouth, animal_eyes, animal_mouth, others), masks/NAME.npz
             (body, ground: frames x img_h x img_w). A clip without gaze counts for its key points (animals).
    N2010    its video in clips/ and allclip1.mat as distributed, or gaze.npz (gaze: viewers x samples x 2,
             x and y in px; group). Blank frames are left out.
    CW2019   as distributed: GazeData/NV/<viewer>/*.mat, Clips_small_size/*.mov, 30s_segment_description.csv

Gaze is x, y in px of the video. Shapes: T frames of a clip, S gaze samples, V viewers, P key points.
"""
from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import scipy.io
import torch
from scipy import stats
from scipy.optimize import minimize
from scipy.spatial.distance import pdist, squareform
from torch import Tensor

from common import InputError, input_errors
from data import IMAGE_SUFFIXES, demo_folder, read_csv, read_image
from results import read_arrays

SAMPLES, CW_SAMPLES = 5, 30  # gaze samples a frame: any layout (our choice); CW2019 (authors' code)
MAX_GAP = .05  # s, between a sample and the nearest record (our choice)
BLANK = ((140, 155), (311, 326), (538, 553), (740, 772), (911, 926), (1094, 1123), (1319, 1334), (1651, 1666),
         (1835, 1850), (1988, 2003), (2167, 2182), (2326, 2327))  # frames of N2010, from 0, end excluded
N2010_GROUPS = {0: "adult", 1: "child", 3: "child ASD", 4: "adult ASD"}
DISPLAY = (1440, 2560)  # px of CW2019's display: rows, columns
GENRES = {"cartoon": "animation", "doc": "nature", "drama": "drama"}  # in CW2019's table: ours
CW_SCALE = .8  # CW2019's frames have ceil(.8 side / 16) 16 px (authors' code)
DIM = 32  # dimensions of the scaling for all numbers (authors' code), at most half the viewers; figures: 2
STARTS = 10  # of the least-squares placement (authors' MultiStart)
SIGMA = 30.  # px, how far from a key point one still looks at it (authors' code)
FACE = ("eyes", "mouth")
PARTS = ("eyes", "mouth", "face", "animal_eyes", "animal_mouth", "animal_face", "body", "ground")
VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv")


@dataclass
class Clip:
    """A video. records() gives its viewers' gaze, {viewer: (n, 3) t_s, x_px, y_px}, read when needed."""
    name: str
    source: Path  # a video file or a folder of frames
    records: Callable[[], dict[str, np.ndarray]]
    genre: str = ""
    fps: float | None = None  # of a folder of frames
    samples: int = SAMPLES
    relative: int = 0  # frames of the whole video, if t is the share of it that has passed (N2010)
    blank: tuple = ()  # frames without a picture
    points: Path | None = None
    masks: Path | None = None

    def files(self) -> list[Path]:
        return list(self.source.iterdir()) if self.source.is_dir() else [self.source]


@dataclass
class Study:
    layout: str
    clips: list[Clip]
    groups: dict[str, str] = field(default_factory=dict)  # viewer -> group
    notes: list[str] = field(default_factory=list)  # faults of the data and how they were dealt with


class Watched(NamedTuple):
    """A clip as it was decoded, and its viewers."""
    clip: Clip
    times: np.ndarray  # (T,), s
    size: tuple[int, int]  # img_h, img_w, px
    viewers: list[str]
    gaze: np.ndarray  # (V, S, 2), NaN where missing
    frame: np.ndarray  # (S,), shown at each sample


class Scene(NamedTuple):
    """A clip with its viewers and what there is to look at."""
    watched: Watched
    points: np.ndarray  # (T, P, 2), NaN where absent
    parts: np.ndarray  # (T, P), "" where absent
    masks: dict[str, np.ndarray]  # of body and ground (T, img_h, img_w)


# -------------------------------------------------------------------------------- layouts

def load_study(data: str, seed: int = 0) -> Study:
    """Recognises the layout of a folder; "demo": the demo world's videos."""
    root = demo_folder("videos", seed=seed) / "videos" if data == "demo" else Path(data)
    if (root / "GazeData" / "NV").is_dir():
        study = load_cw2019(root)
    elif not (root / "clips").is_dir():
        raise InputError(f"{root}: no folder clips, no GazeData/NV; expected one of the layouts that "
                         "exp05_data.py describes.")
    elif (root / "gaze.npz").is_file() or (root / "allclip1.mat").is_file():
        study = load_n2010(root)
    else:
        study = load_any(root)
    if not study.clips:
        raise InputError(f"{root}: no clips; expected video files or folders of frames in clips, or CW2019.")
    return study


def table(path: Path, key: str) -> dict[str, dict]:
    """{value of the column key: row} of a CSV file; nothing if there is no file."""
    if not path.is_file():
        return {}
    with input_errors(path, f"a CSV file with a column {key}"):
        return {row[key]: row for row in read_csv(path)}


def load_any(root: Path) -> Study:
    """The layout "any", also the demo world's."""
    info, clips = table(root / "clips.csv", "clip"), []
    for source in sorted((root / "clips").iterdir()):
        if not source.is_dir() and source.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        name = source.name if source.is_dir() else source.stem
        row = info.get(name, {})
        fps = row.get("fps") or None
        if name in [clip.name for clip in clips]:
            raise InputError(f"{root / 'clips'}: two clips are called {name}; rename one of them.")
        if fps is not None and not (isinstance(fps, float) and 0 < fps < math.inf):
            raise InputError(f"{source}: {fps!r} frames/s in clips.csv; expected a number above 0.")
        if source.is_dir() and fps is None and len(image_files(source)) > 1:
            raise InputError(f"{source}: frames without a rate; add a column fps to clips.csv.")
        clip = Clip(name, source, partial(gaze_csv, root / "gaze" / f"{name}.csv"), str(row.get("genre", "")),
                    fps)
        if (root / "keypoints" / f"{name}.csv").is_file():
            clip.points = root / "keypoints" / f"{name}.csv"
        if (root / "masks" / f"{name}.npz").is_file():
            clip.masks = root / "masks" / f"{name}.npz"
        clips.append(clip)
    groups = {viewer: row.get("group", "") for viewer, row in table(root / "viewers.csv", "viewer").items()}
    given = [p for kind in ("gaze", "keypoints", "masks") for p in sorted((root / kind).glob("[!.]*.*"))]
    names = {clip.name for clip in clips}
    return Study("any", clips, groups, [f"{p.parent.name}/{p.name}: no clip has this name, so it is not used"
                                        for p in given if p.stem not in names])


def gaze_csv(path: Path) -> dict[str, np.ndarray]:
    """{viewer: (n, 3) t_s, x_px, y_px in order of time} of gaze/NAME.csv; empty coordinates are NaN."""
    viewers: dict[str, list] = {}
    with input_errors(path, "columns viewer, t_s, x_px, y_px; numbers, the last two empty if missing"):
        for row in read_csv(path) if path.is_file() else []:
            xy = [np.nan if row[k] == "" else float(row[k]) for k in ("x_px", "y_px")]
            viewers.setdefault(row["viewer"], []).append([float(row["t_s"]), *xy])
    return {viewer: np.array(sorted(record)) for viewer, record in viewers.items()}


def load_n2010(root: Path) -> Study:
    """N2010: one video; allclip1.mat (eyeclip1, goodsubj and gr from 1) or gaze.npz (gaze, group)."""
    study, mat = load_any(root), root / "allclip1.mat"
    path = mat if mat.is_file() else root / "gaze.npz"
    with input_errors(path, "gaze (viewers, samples, 2) in px and group; or eyeclip1, goodsubj and gr"):
        if path == mat:
            m = scipy.io.loadmat(mat, simplify_cells=True)
            good = np.ravel(m["goodsubj"]).astype(int) - 1
            gaze = np.stack([m["eyeclip1"][i] for i in good]).astype(float)
            group = np.ravel(m["gr"])[good] - 1
        else:
            m = read_arrays(path)
            gaze, group = m["gaze"].astype(float), m.get("group", np.array([]))
        if gaze.ndim != 3 or gaze.shape[2] != 2 or len(group) not in (0, len(gaze)) or len(study.clips) != 1:
            raise ValueError(f"gaze of shape {gaze.shape}, {len(group)} groups, {len(study.clips)} videos")
    t = np.linspace(0, 1, gaze.shape[1])[:, None]
    records = {f"viewer{i:03d}": np.concatenate([t, g], 1) for i, g in enumerate(gaze)}
    clip = study.clips[0]
    clip.records, clip.relative, clip.genre = lambda: records, BLANK[-1][1], ""
    clip.blank = tuple(i for start, stop in BLANK for i in range(start, stop))
    groups = {viewer: N2010_GROUPS.get(g, str(g)) for viewer, g in zip(records, group.tolist())}
    return Study("n2010", [clip], groups)


def bare(name: str) -> str:
    """Name of a CW2019 video without its suffixes: _c, "_c 2" (compressed)."""
    return re.sub(r"_c( 2)?$", "", name)


def continues(name: str, whole: str) -> bool:
    """Whether whole begins with name; X_1 is not the beginning of X_10."""
    return bool(name) and re.match(re.escape(name) + r"(?!\d)", whole) is not None


def load_cw2019(root: Path) -> Study:
    """CW2019 as distributed. A record belongs to the video that its movieFileName names."""
    videos = {bare(p.stem): p for p in sorted((root / "Clips_small_size").glob("*.mov"))}
    description = root / "30s_segment_description.csv"
    with input_errors(description, "columns 'file name' and 'genre category'"):
        genres = {str(row["file name"]): next((ours for word, ours in GENRES.items()
                                               if word in row["genre category"]), "")
                  for row in read_csv(description)}
    records: dict[str, list[Path]] = {name: [] for name in [*videos, ""]}  # "": of no video that is there
    for path in sorted((root / "GazeData" / "NV").glob("*/*.mat")):
        with input_errors(path, "a .mat file with movieFileName and eyetrackRecord"):
            mat = scipy.io.loadmat(path, variable_names=["movieFileName"], simplify_cells=True)
            name = bare(Path(str(mat["movieFileName"]).replace("\\", "/")).stem)
        if name not in videos:
            name = next((video for video in videos if continues(name, video)), "")
        records[name].append(path)
    study = Study("cw2019", [])
    if records[""]:
        study.notes.append(f"{len(records[''])} gaze records of videos that Clips_small_size lacks were left "
                           "out")
    for name, video in videos.items():
        if records[name]:
            genre = genres.get(name) or next((g for k, g in genres.items() if continues(k, name)), "")
            study.clips.append(Clip(video.stem, video, partial(gaze_mats, records[name], video), genre,
                                    samples=CW_SAMPLES))
    return study


def gaze_mats(paths: list[Path], video: Path) -> dict[str, np.ndarray]:
    """CW2019's records of one clip; display px -> video px, the video as wide as the display and centred."""
    with input_errors(video, "a video file that can be decoded"), av.open(str(video)) as file:
        img_h, img_w = file.streams.video[0].height, file.streams.video[0].width
    scale, viewers = img_w / DISPLAY[1], {}
    top = max((DISPLAY[0] - img_h / scale) / 2, 0)  # the letterbox, display px
    for path in paths:
        with input_errors(path, "a .mat file with eyetrackRecord.t, x, y, missing"):
            record = scipy.io.loadmat(path, simplify_cells=True)["eyetrackRecord"]
            t, x, y, gone = (np.ravel(record[k]).astype(float) for k in ("t", "x", "y", "missing"))
            x[gone > 0] = np.nan
            viewers[path.parent.name] = np.stack([(t - t[0]) / 1000, x * scale, (y - top) * scale], 1)
    return viewers


# -------------------------------------------------------------------------------- frames

def image_files(folder: Path) -> list[Path]:
    """The images of a folder by the number in their names: 10.png comes after 9.png."""
    paths = [p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES]
    return sorted(paths, key=lambda p: (int(re.sub(r"\D", "", p.stem) or 0), p.name))


def frames(clip: Clip) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
    """(seconds since the first frame, function that gives the picture (img_h, img_w, 3) in RGB), in order.

    Times are the file's own, so a variable frame rate is kept. Damage raises whatever the decoder raises.
    """
    if clip.source.is_dir():
        paths = image_files(clip.source)
        if not paths:
            raise ValueError("no images in it")
        for n, path in enumerate(paths):
            yield n / (clip.fps or 1), lambda path=path: np.array(read_image(path))
        return
    n, start = 0, 0.
    with av.open(str(clip.source)) as file:
        stream = file.streams.video[0]
        stream.codec_context.options = {"err_detect": "explode"}  # damage must not be painted over
        stream.thread_type, announced = "AUTO", stream.frames
        for frame in file.decode(stream):
            if frame.is_corrupt:
                raise ValueError("a damaged frame")
            now = n / float(stream.average_rate) if frame.time is None else frame.time
            start = now if n == 0 else start
            yield now - start, partial(frame.to_ndarray, format="rgb24")
            n += 1
    if n < max(announced, 1):
        raise ValueError(f"the file ends early, it announces {announced}")


class Frames(torch.utils.data.Dataset):
    """Item i -> dict(image=frame i as (img_h, img_w, 3) uint8), for the first n frames of a clip. Frames are
    decoded in order: who asks for an earlier one starts the clip again."""

    def __init__(self, clip: Clip, n: int):
        self.clip, self.n, self.stream, self.next = clip, n, None, n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict:
        if i < self.next:
            self.stream, self.next = frames(self.clip), 0
        _, picture = next(islice(self.stream, i - self.next, None))
        self.next = i + 1
        return dict(image=torch.from_numpy(picture()))


def area_matrix(n_in: int, n_out: int) -> Tensor:
    """(n_out, n_in): resampling by means over the area of each output pixel (OpenCV's INTER_AREA)."""
    edges, pixel = torch.arange(n_out + 1.) * n_in / n_out, torch.arange(float(n_in))
    overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return overlap.clamp(min=0) * n_out / n_in


def resized(images: Tensor, patch: int, scale: float | None) -> Tensor:
    """(B, 3, img_h, img_w) uint8 -> RGB in [0, 1] with sides of whole patches: the nearest, or with a scale
    the next above scale x side. By area, rounded to 8 bits as in a file."""
    def side(n: int) -> int:
        patches = math.ceil(scale * n / patch) if scale else round(n / patch)
        return max(2, patches) * patch
    rows, cols = (area_matrix(n, side(n)).to(images.device) for n in images.shape[-2:])
    return (rows @ images.float() @ cols.T).round() / 255


def watch_all(study: Study, limit: int | None) -> list[Watched]:
    """The clips with a frame that can be decoded. InputError: none, or no four viewers to compare."""
    watched = [watch(clip, limit, study.notes) for clip in study.clips]
    watched = [w for w in watched if len(w.times)]
    if not watched:
        raise InputError("no clip could be decoded: " + "; ".join(study.notes))
    met = {viewer for w in watched if len(w.viewers) > 1 for viewer in w.viewers}
    if len(met) < 4:
        raise InputError(f"{len(met)} viewers saw what another saw; at least 4 are needed to place heads.")
    return watched


def watch(clip: Clip, limit: int | None, notes: list[str]) -> Watched:
    """Decodes a clip once, to know its times and size, and reads its viewers' gaze. Damage ends the clip, and
    a sentence is added to notes. InputError: frames of different sizes, wrong gaze files."""
    times, sizes = [], set()
    try:
        for now, picture in islice(frames(clip), limit):
            sizes.add(picture().shape[:2])
            times.append(now)
    except Exception as e:  # a damaged file fails in many ways, such as a stream of an unknown codec
        notes.append(f"{clip.source.name}: damaged after {len(times)} frames ({e}); the frames before the "
                     "damage are used")
    if len(sizes) > 1:
        raise InputError(f"{clip.source}: frames of different sizes, {sorted(sizes)}; make them equal.")
    if not times:
        return Watched(clip, np.empty(0), (0, 0), [], np.empty((0, 0, 2)), np.empty(0, int))
    times, size = np.array(times), sizes.pop()
    return Watched(clip, times, size, *viewers_of(clip, times, size, limit is None, notes))


# -------------------------------------------------------------------------------- gaze, key points, masks

def align(records: dict[str, np.ndarray], times: np.ndarray, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Gaze on common samples (V, S, 2), NaN where missing, and the frame shown at each sample (S,).

    clip.samples samples a frame at even distances take each viewer's nearest record (authors' CW2019 code).
    N2010 keeps its samples, but those of frames not decoded; the frames are spread evenly over them.
    """
    if clip.relative:
        gaze = np.stack([r[:, 1:] for r in records.values()])  # (V, S, 2)
        share = next(iter(records.values()))[:, 0]
        frame = np.ceil(share * (clip.relative - 1) - .5).astype(int).clip(0)
        gaze, frame = gaze[:, frame < len(times)], frame[frame < len(times)]
    else:
        last = np.median(np.diff(times)) if len(times) > 1 else 1 / 24  # how long the last frame is shown
        edges = np.append(times, times[-1] + last)
        at = (np.arange(len(times) * clip.samples) + .5) / clip.samples  # (S,), in frames
        frame, at = at.astype(int), np.interp(at, np.arange(len(edges)), edges)
        gaze = np.full((len(records), len(at), 2), np.nan)
        for g, r in zip(gaze, records.values()):
            i = np.searchsorted((r[1:, 0] + r[:-1, 0]) / 2, at)  # the nearest record
            near = np.abs(r[i, 0] - at) <= MAX_GAP
            g[near] = r[i[near], 1:]
    gaze[:, np.isin(frame, clip.blank)] = np.nan
    return gaze, frame


def viewers_of(clip: Clip, times: np.ndarray, size: tuple[int, int], whole: bool,
               notes: list[str]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Viewers of a clip, their gaze (V, S, 2) and its frames (S,). Gaze outside the frame counts as missing,
    viewers without any are left out; both are noted, and so are lengths that differ (whole: no --limit)."""
    records = clip.records()
    if not records:
        return [], np.empty((0, 0, 2)), np.empty(0, int)
    gaze, frame = align(records, times, clip)
    outside = ((gaze < 0) | (gaze >= size[::-1])).any(2)  # comparisons with NaN are False
    if outside.any():
        notes.append(f"{clip.name}: {outside.mean():.2%} of the gaze lies outside the frame, so is missing")
        gaze[outside] = np.nan
    longest, length = max(r[-1, 0] for r in records.values()), times[-1]
    if whole and not clip.relative and abs(longest - length) > .5:
        notes.append(f"{clip.name}: {length:.1f} s of video, {longest:.1f} s of gaze; the shorter is used")
    if whole and clip.relative not in (0, len(times)):
        notes.append(f"{clip.name}: {len(times)} of {clip.relative} frames; only their gaze is used")
    seen = np.isfinite(gaze[..., 0]).any(1)
    notes += [f"{clip.name}: no gaze of viewer {v}, left out here" for v, s in zip(records, seen) if not s]
    return [v for v, s in zip(records, seen) if s], gaze[seen], frame


def key_points(path: Path, n_frames: int) -> tuple[np.ndarray, np.ndarray]:
    """keypoints/NAME.csv: points (T, P, 2) x, y, NaN where absent, their parts (T, P), "" where absent.
    Heads, which hold eyes and mouth, are left out."""
    rows: list[list] = [[] for _ in range(n_frames)]
    with input_errors(path, "columns frame (from 0), part, x_px, y_px"):
        for r in read_csv(path):
            if not r["part"].endswith("head") and r["x_px"] != "" and 0 <= r["frame"] < n_frames:
                rows[int(r["frame"])].append((r["part"], float(r["x_px"]), float(r["y_px"])))
    width = max(map(len, rows))
    points, parts = np.full((n_frames, width, 2), np.nan), np.full((n_frames, width), "", dtype="U32")
    for t, row in enumerate(rows):
        for k, (part, x, y) in enumerate(row):
            parts[t, k], points[t, k] = part, (x, y)
    return points, parts


def read_masks(path: Path, n_frames: int, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """masks/NAME.npz: {"body", "ground": (T, img_h, img_w)}, of the first T frames."""
    masks = {}
    with input_errors(path, "arrays body and ground: frames x img_h x img_w"):
        arrays = read_arrays(path)
        for part in ("body", "ground"):
            masks[part] = arrays[part][:n_frames]
            if masks[part].shape != (n_frames, *size):
                raise ValueError(f"{part} has shape {masks[part].shape}, its clip {(n_frames, *size)}")
    return masks


def load_scenes(arrays: dict[str, np.ndarray], clips: Sequence[Clip]) -> list[Scene]:
    """The clips of a run, their viewers, key points and masks."""
    scenes = []
    for clip in [clip for clip in clips if f"gaze/{clip.name}" in arrays]:
        times, size = arrays[f"times/{clip.name}"], tuple(arrays[f"size/{clip.name}"].tolist())
        watched = Watched(clip, times, size, *viewers_of(clip, times, size, False, []))
        points, parts, masks = np.empty((len(times), 0, 2)), np.empty((len(times), 0)), {}
        if clip.points:
            points, parts = key_points(clip.points, len(times))
        if clip.masks:
            masks = read_masks(clip.masks, len(times), size)
        scenes.append(Scene(watched, points, parts, masks))
    return scenes


# -------------------------------------------------------------------------------- looks

def viewing_proportion(gaze: np.ndarray, points: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """How much of each look goes to each key point: gaze (..., 2), points (..., P, 2) -> (..., P).

    exp(-distance^2 / (2 sigma^2)), divided by its sum over the points where that exceeds 1. An absent point
    (NaN) gets 0; all are NaN without gaze.
    """
    w = np.exp(np.square(gaze[..., None, :] - points).sum(-1) / (-2 * sigma**2))
    w = np.where(np.isnan(points[..., 0]), 0 * gaze[..., :1], w)
    return w / np.maximum(w.sum(-1, keepdims=True), 1)


def part_shares(gaze: np.ndarray, points: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    """Share of the looks (S, 2) at each part in %, over the samples where it exists; face = eyes + mouth.
    points (S, P, 2), parts (S, P). NaN: no such part."""
    w, shares = viewing_proportion(gaze, points), {}  # (S, P)
    for part in PARTS[:6]:
        members = [part.replace("face", member) for member in FACE] if part.endswith("face") else [part]
        mine = np.isin(parts, members)
        there = mine.any(1) & np.isfinite(gaze[:, 0])
        shares[part] = float(100 * (w * mine)[there].sum(1).mean()) if there.any() else np.nan
    return shares


def mask_shares(gaze: np.ndarray, frame: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of the looks (S, 2) inside each mask (T, img_h, img_w) in %; frame (S,)."""
    seen = np.isfinite(gaze[:, 0])
    x, y = gaze[seen].astype(int).T
    return {part: float(100 * mask[frame[seen], y, x].mean()) for part, mask in masks.items() if seen.any()}


def left_minus_right(gaze: np.ndarray, points: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Share of looks (..., S, 2) at the left face less that at the right one: (..., S), NaN unless there are
    two mouths. A key point of a face belongs to the nearer mouth."""
    out, w = np.full(gaze.shape[:-1], np.nan), viewing_proportion(gaze, points)  # (..., S, P)
    for s in np.flatnonzero((parts == "mouth").sum(1) == 2):
        mouths, face = points[s, parts[s] == "mouth"], np.isin(parts[s], FACE)
        mouths = mouths[mouths[:, 0].argsort()]
        left = np.square(points[s, :, None] - mouths).sum(-1).argmin(-1) == 0
        out[..., s] = w[..., s, face & left].sum(-1) - w[..., s, face & ~left].sum(-1)
    return out


def mean_by_frame(values: np.ndarray, frame: np.ndarray, n: int) -> np.ndarray:
    """Mean of the values (looks, S) that are there over the samples of a frame: frame (S,) -> (n,)."""
    good, frame = np.isfinite(values), np.broadcast_to(frame, values.shape)
    count, total = np.bincount(frame[good], minlength=n), np.bincount(frame[good], values[good], n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


# -------------------------------------------------------------------------------- distances

def median_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Median over time of the px between the traces a (S, 2) and b (V, S, 2): (V,), NaN ignored."""
    d = np.sort(np.hypot(*np.moveaxis(b - a, -1, 0)), axis=1)  # (V, S), NaN last
    n = np.isfinite(d).sum(1, keepdims=True)
    middle = [np.take_along_axis(d, i.clip(0, max(d.shape[1] - 1, 0)), 1) for i in ((n - 1) // 2, n // 2)]
    return np.where(n > 0, sum(middle) / 2, np.nan)[:, 0]


def nan_mean(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Mean over the arrays, NaN ignored; NaN where all are."""
    n = np.isfinite(arrays).sum(0)
    return np.where(n > 0, np.nansum(arrays, 0) / np.maximum(n, 1), np.nan)


def distances(w: Watched, traces: np.ndarray, viewers: Sequence[str]) -> np.ndarray:
    """Distances of a clip's traces (T, C, 2), then of all viewers, to all viewers: (C + V, V), px. NaN for
    viewers who did not see the clip."""
    d = np.full((traces.shape[1] + len(viewers), len(viewers)), np.nan)
    columns = [viewers.index(viewer) for viewer in w.viewers]
    rows = [*range(traces.shape[1]), *(traces.shape[1] + column for column in columns)]
    looks = [*traces[w.frame].swapaxes(0, 1), *w.gaze]  # (S, 2) each
    if columns:
        d[np.ix_(rows, columns)] = [median_distance(look, w.gaze) for look in looks]
    return d


def pooled(watched: Sequence[Watched], traces: Sequence[np.ndarray], viewers: Sequence[str]
           ) -> tuple[Watched, np.ndarray]:
    """All clips, and their traces, put together to one that all viewers saw."""
    gaze, frame, start = [], [], 0
    for w in watched:
        wide = np.full((len(viewers), len(w.frame), 2), np.nan)
        wide[[viewers.index(viewer) for viewer in w.viewers]] = w.gaze
        gaze.append(wide)
        frame.append(start + w.frame)
        start += len(w.times)
    times = np.concatenate([w.times for w in watched])
    whole = Watched(watched[0].clip, times, watched[0].size, list(viewers), np.concatenate(gaze, 1),
                    np.concatenate(frame))
    return whole, np.concatenate(traces)


def distance_sets(watched: Sequence[Watched], traces: Sequence[np.ndarray], by_clip: Sequence[np.ndarray],
                  viewers: Sequence[str], pool: bool) -> dict[str, tuple[str, np.ndarray]]:
    """{set of clips: (unit, distances (C + V, V))}: all, and every genre.

    "all" pooled (N2010): medians over the time of all clips, px. Else, and genres (CW2019): each clip's
    medians divided by their median over its pairs of viewers, then the mean over clips. by_clip: `distances`
    of every clip.
    """
    found, sets = [], {}
    for w, d in zip(watched, by_clip):
        pairs = d[-len(viewers):][np.triu_indices(len(viewers), 1)]
        if np.isfinite(pairs).any():
            found.append((w.clip.genre, d / np.nanmedian(pairs)))
    if pool:
        sets["all"] = "px", distances(*pooled(watched, traces, viewers), viewers)
    for genre in ([] if pool else [""]) + sorted({genre for genre, _ in found} - {""}):
        mine = nan_mean([d for g, d in found if genre in ("", g)])
        sets[genre or "all"] = "median between viewers", mine
    return sets


def fill(between: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(which viewers met another (V,), distances between these): pairs that never met get the median of
    their column, averaged over both halves. between (V, V)."""
    d = np.where(np.eye(len(between), dtype=bool), np.nan, between)
    met = np.isfinite(d).any(1)
    d = d[np.ix_(met, met)]
    if met.any():
        d = np.where(np.isnan(d), np.nanmedian(d, 0), d) * (1 - np.eye(len(d)))
    return met, (d + d.T) / 2


# -------------------------------------------------------------------------------- scaling and tests

def classical(D: np.ndarray) -> np.ndarray:
    """Classical scaling: (n, n) distances -> (n, n) coordinates, the longest axis first."""
    centre = np.eye(len(D)) - 1 / len(D)
    value, vector = np.linalg.eigh(-.5 * centre @ D**2 @ centre)
    return (vector * np.sqrt(value.clip(min=0)))[:, ::-1]


def mds(D: np.ndarray, dim: int) -> np.ndarray:
    """Coordinates (n, dim) whose distances come nearest to D (n, n): least squared errors over the pairs.

    Metric stress from the classical solution, as MATLAB's mdscale does; by quasi-Newton steps, which reach
    the minimum that SMACOF creeps to. In two dimensions the classical start can miss the minimum by up to
    .4 %, so a random one is tried, too, and the better kept. Centred on the mean.
    """
    n, unit = len(D), D.max() or 1.
    delta = D / unit
    start = np.zeros((n, dim))
    start[:, :n] = classical(delta)[:, :dim]
    starts = [start]
    if dim == 2:
        starts.append(np.random.default_rng(0).normal(0, start.std(), (n, dim)))

    def error(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = flat.reshape(n, dim)
        d = squareform(pdist(x))
        ratio = (d - delta) / np.where(d > 0, d, 1)  # (n, n)
        slope = 2 * (ratio.sum(1, keepdims=True) * x - ratio @ x)
        return np.square(d - delta).sum() / 2, slope.ravel()

    options = dict(maxiter=20000, maxfun=20000, ftol=1e-13, gtol=1e-8)
    found = [minimize(error, x.ravel(), jac=True, method="L-BFGS-B", options=options) for x in starts]
    best = found[-1] if found[-1].fun < (1 - 1e-6) * found[0].fun else found[0]  # if equal, the first's axes
    x = best.x.reshape(n, dim)
    return (x - x.mean(0)) * unit


def stress(D: np.ndarray, x: np.ndarray) -> float:
    """sqrt(sum of squared errors / sum of squared distances wanted), over pairs."""
    wanted = squareform(D, checks=False)
    return float(np.sqrt(np.square(pdist(x) - wanted).sum() / np.square(wanted).sum()))


def place(distances: np.ndarray, coords: np.ndarray, starts: int = STARTS, seed: int = 0) -> np.ndarray:
    """Points at given distances from fixed ones: distances (..., V), coords (V, dim) -> (..., dim).

    Least squares of |point - coords| - distance by Levenberg-Marquardt, the best of `starts` starts: the
    origin, then normal draws as wide as the coordinates. NaN distances do not count. All points take steps
    until the last one stands still, so place many in parts (`scaled`).
    """
    lead, dim = np.shape(distances)[:-1], coords.shape[1]
    wanted = np.reshape(distances, (-1, 1, len(coords))).astype(float)  # (b, 1, V)
    known, wanted = np.isfinite(wanted), np.nan_to_num(wanted)
    x = np.random.default_rng([seed, starts]).normal(0, np.sqrt(coords.var(0).mean()), (starts, dim))
    x[0] = 0
    x, damping = np.tile(x, (len(wanted), 1, 1)), np.ones((len(wanted), starts, 1, 1))

    def residuals(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = x[..., None, :] - coords  # (b, starts, V, dim)
        length = np.maximum(np.linalg.norm(away, axis=-1), 1e-12)
        return (length - wanted) * known, away / length[..., None] * known[..., None]

    r, jac = residuals(x)
    for _ in range(300):
        slope, square = jac.swapaxes(-1, -2) @ r[..., None], jac.swapaxes(-1, -2) @ jac
        step = np.linalg.solve(square + damping * np.eye(dim), slope)[..., 0]
        new_r, new_jac = residuals(x - step)
        cost, new_cost = np.square(r).sum(-1), np.square(new_r).sum(-1)  # (b, starts)
        better = (new_cost < cost)[..., None]
        x, r = np.where(better, x - step, x), np.where(better, new_r, r)
        jac = np.where(better[..., None], new_jac, jac)
        damping = np.where(better[..., None], damping / 5, damping * 4).clip(1e-9, 1e9)
        still = (cost - new_cost <= 1e-10 * cost) & (better[..., 0] | (damping[..., 0, 0] > 1e8))
        if (still | (cost < 1e-18)).all():
            break
    best = np.square(r).sum(-1).argmin(1)
    return x[np.arange(len(x)), best].reshape(*lead, dim)


def from_median(points: np.ndarray, viewers: np.ndarray) -> np.ndarray:
    """MDS distance: of points (..., dim) from the component-wise median of the viewers (V, dim)."""
    return np.linalg.norm(points - np.median(viewers, 0), axis=-1)


def scaled(d: np.ndarray) -> dict | None:
    """Viewers scaled by the distances between them, traces placed among them; d (C + V, V). MDS distances
    (R,) and 2-D coordinates (R, 2) of traces and viewers; NaN for viewers who met nobody. None: fewer than
    four viewers met."""
    n = len(d) - d.shape[1]
    met, between = fill(d[n:])
    if len(between) < 4:
        return None
    dim = min(DIM, (len(between) + 1) // 2)  # few viewers do not fix many dimensions
    rows = np.append(np.arange(n), n + np.flatnonzero(met))  # who has a place
    parts = np.array_split(d[:n, met], -(-n // 16))  # 16 traces at a time, which stay in a CPU's cache

    def among(people: np.ndarray) -> np.ndarray:  # the places of traces, then those of viewers
        return np.concatenate([*(place(part, people) for part in parts), people])

    people, distance, xy = mds(between, dim), np.full(len(d), np.nan), np.full((len(d), 2), np.nan)
    distance[rows] = from_median(among(people), people)
    xy[rows] = among(mds(between, 2))
    return dict(distance=distance, xy=xy, dim=dim, stress=stress(between, people), viewers=len(between))


def compare(name: str, a, b, n_tests: int = 1) -> dict:
    """Exact two-sided Mann-Whitney test of a against b, Bonferroni for n_tests. Effect sizes: d, Cohen's with
    the pooled SD; delta, Cliff's: P(a > b) - P(a < b)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    u, p = stats.mannwhitneyu(a, b, method="exact")
    spread = np.sqrt((np.square(a - a.mean()).sum() + np.square(b - b.mean()).sum()) / (len(a) + len(b) - 2))
    return dict(name=name, n=[len(a), len(b)], medians=[float(np.median(a)), float(np.median(b))], U=float(u),
                p=float(p), p_bonferroni=min(1., float(p) * n_tests), n_tests=n_tests,
                d=float((a.mean() - b.mean()) / spread) if spread > 0 else None,
                delta=float(2 * u / (len(a) * len(b)) - 1))
