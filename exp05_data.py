"""exp05: videos and where their viewers looked. The data are in one of three layouts:

    any      clips/NAME.mp4 or clips/NAME/000001.png; gaze/NAME.csv (viewer, t_s, x_px, y_px; empty: missing).
             Optional: viewers.csv (viewer, group), clips.csv (clip, genre, fps), keypoints/NAME.csv (frame
             from 0, part, x_px, y_px; parts eyes, mouth, face (the rest of one), animal_eyes, animal_mouth,
             animal_face, others; a point that is absent for a while keeps its row, with x and y empty),
             masks/NAME.npz (body, ground: frames x img_h x img_w). A clip without gaze counts for its key
             points (animals).
    N2010    its video in clips/; as distributed: allclip1.mat (gaze and key points) and
             video_stimuli/eyeclip_annotation.txt. Blank frames are left out.
    both     may have animal_parts/: VGG's imdb-animalParts-eye.mat, the paper authors' file of mouths
             shifted_mouth_pos_val.npz, ImageNet's validation images in val/ (see exp05_frames.py).
    CW2019   as distributed: GazeData/NV/<viewer>/*.mat, Clips_small_size/*.mov, 30s_segment_description.csv

Gaze is x, y in px of the video. Shapes: T frames of a clip, S gaze samples, V viewers.
"""
from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import scipy.io

from common import InputError, input_errors
from data import demo_folder, entries, read_csv
from exp05_frames import Clip, animal_clip, frames, image_files
from gaze import check_units, is_share, place_hints, with_size, zero_note

CW_SAMPLES = 30  # gaze samples a frame of CW2019 (authors' code)
LEAST_GAZE = .2  # share of a clip's frames with gaze, below which its unit or clock is wrong (our choice)
OUTSIDE = .5  # share of gaze that may lie off the frames (our choice)
LONGEST = 3  # times a clip that a record may last before its clock is wrong (our choice)
SOME = 10_000  # records of a clip that `check_places` looks at
MAX_GAP = .05  # s, between a sample and the nearest record (our choice)
BLANK = ((140, 155), (311, 326), (538, 553), (740, 772), (911, 926), (1094, 1123), (1319, 1334), (1651, 1666),
         (1835, 1850), (1988, 2003), (2167, 2182), (2326, 2327))  # frames of N2010, from 0, end excluded
N2010_GROUPS = {0: "adult", 1: "child", 3: "child ASD", 4: "adult ASD"}
DISPLAY = (1440, 2560)  # px of CW2019's display: rows, columns
GENRES = {"cartoon": "animation", "doc": "nature", "drama": "drama"}  # in CW2019's table: ours
CW_SCALE = .8  # CW2019's frames have ceil(.8 side / 16) 16 px (authors' code)
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".mts")


@dataclass
class Study:
    layout: str
    clips: list[Clip]
    groups: dict[str, str] = field(default_factory=dict)  # viewer -> group
    notes: list[str] = field(default_factory=list)  # faults of the data and how they were dealt with
    scale: float | None = None  # of the frames, see exp05_frames.resized


class Watched(NamedTuple):
    """A clip as it was decoded, and its viewers."""
    clip: Clip
    times: np.ndarray  # (T,), s
    size: tuple[int, int]  # img_h, img_w, px
    viewers: list[str]
    gaze: np.ndarray  # (V, S, 2), NaN where missing
    frame: np.ndarray  # (S,), shown at each sample
    some: dict[str, np.ndarray] = {}  # viewer -> records t_s, x_px, y_px, in all SOME of a clip, in any place


# -------------------------------------------------------------------------------- layouts

def load_study(data: str, seed: int = 0, lost_at_zero: bool = False) -> Study:
    """Recognises the layout of a folder; "demo": the demo world's videos. lost_at_zero: gaze at exactly
    (0, 0) is missing."""
    root = demo_folder("videos", seed=seed) / "videos" if data == "demo" else Path(data)
    if (root / "GazeData" / "NV").is_dir():
        study = load_cw2019(root)
    elif not (root / "clips").is_dir():
        raise InputError(f"{root}: no folder clips, no GazeData/NV; expected one of the layouts that "
                         "exp05_data.py describes.")
    elif (root / "allclip1.mat").is_file():
        study = load_n2010(root)
    else:
        study = load_any(root)
    if (root / "animal_parts").is_dir():
        study.clips.append(animal_clip(root / "animal_parts", study.notes))
    if not study.clips:
        raise InputError(f"{root}: no clips; expected video files or folders of frames in clips, or CW2019.")
    for clip in study.clips:
        clip.lost_at_zero = lost_at_zero
    return study


def table(path: Path, key: str, *others: str) -> dict[str, dict]:
    """{value of the column key: row} of a CSV file with that column and others; nothing if there is no file.
    InputError: a value twice."""
    rows: dict[str, dict] = {}
    for row in read_csv(path, text=[key, *others]) if path.is_file() else []:
        if row[key] in rows:
            raise InputError(f"{path}: {key} {row[key]} is there twice; keep one row.")
        rows[row[key]] = row
    return rows


def load_any(root: Path) -> Study:
    """The layout "any", also the demo world's."""
    info, study = table(root / "clips.csv", "clip"), Study("any", [])
    for source in entries(root / "clips"):
        if not source.is_dir() and source.suffix.lower() not in VIDEO_SUFFIXES:
            study.notes.append(f"clips/{source.name}: not read, no ending of a video "
                               f"({' '.join(VIDEO_SUFFIXES)})")
            continue
        name = source.name if source.is_dir() else source.stem
        row = info.get(name, {})
        fps = row.get("fps", "")
        if name in [clip.name for clip in study.clips]:
            raise InputError(f"{root / 'clips'}: two clips are called {name}; rename one of them.")
        if fps != "" and not (isinstance(fps, float) and 0 < fps < math.inf):
            raise InputError(f"{source}: {fps!r} frames/s in clips.csv; expected a number above 0.")
        if source.is_dir() and fps == "" and len(image_files(source)) > 1:
            raise InputError(f"{source}: frames without a rate; add a column fps to clips.csv.")
        points, masks = root / "keypoints" / f"{name}.csv", root / "masks" / f"{name}.npz"
        study.clips.append(Clip(name, source, partial(gaze_csv, root / "gaze" / f"{name}.csv"),
                                str(row.get("genre", "")), fps or None,
                                points=points if points.is_file() else None,
                                masks=masks if masks.is_file() else None))
    viewers = table(root / "viewers.csv", "viewer", "group")
    study.groups = {viewer: row["group"] for viewer, row in viewers.items()}
    names = {clip.name for clip in study.clips}
    study.notes += [f"clips.csv, {name}: no clip has this name" for name in info if name not in names]
    for kind, end in (("gaze", ".csv"), ("keypoints", ".csv"), ("masks", ".npz")):
        study.notes += [f"{kind}/{p.name}: no clip has this name, or it is no {end}, so it is not used"
                        for p in sorted((root / kind).glob("[!.]*.*"))
                        if p.suffix != end or p.stem not in names]
    return study


def gaze_csv(path: Path) -> dict[str, np.ndarray]:
    """{viewer: (n, 3) t_s, x_px, y_px in order of time} of gaze/NAME.csv; empty coordinates are NaN."""
    viewers: dict[str, list] = {}
    with input_errors(path, "columns viewer, t_s, x_px, y_px; numbers, the last two empty if missing"):
        for row in read_csv(path, ["viewer"], ["t_s", "x_px", "y_px"]) if path.is_file() else []:
            xy = [np.nan if row[k] == "" else float(row[k]) for k in ("x_px", "y_px")]
            viewers.setdefault(row["viewer"], []).append([float(row["t_s"]), *xy])
    return {viewer: np.array(sorted(record)) for viewer, record in viewers.items()}


def load_n2010(root: Path) -> Study:
    """N2010 as distributed: one video and allclip1.mat."""
    study, mat = load_any(root), root / "allclip1.mat"
    with input_errors(mat, "eyeclip1 (viewers; samples, 2) in px, goodsubj and gr; one video in clips"):
        m = scipy.io.loadmat(mat, simplify_cells=True)
        good = np.ravel(m["goodsubj"]).astype(int) - 1  # they count from 1, as do the groups
        gaze = np.stack([m["eyeclip1"][i] for i in good]).astype(float)  # (V, S, 2)
        group = np.ravel(m["gr"])[good] - 1
        if gaze.ndim != 3 or gaze.shape[2] != 2 or len(study.clips) != 1:
            raise ValueError(f"gaze of shape {gaze.shape}, {len(study.clips)} videos")
    t = np.linspace(0, 1, gaze.shape[1])[:, None]
    records = {f"viewer{i:03d}": np.concatenate([t, g], 1) for i, g in enumerate(gaze)}
    clip = study.clips[0]
    clip.records, clip.relative, clip.genre, clip.stored = lambda: records, BLANK[-1][1], "", True
    clip.blank = tuple(i for start, stop in BLANK for i in range(start, stop))
    clip.points, clip.annotation = mat, root / "video_stimuli" / "eyeclip_annotation.txt"
    groups = {viewer: N2010_GROUPS.get(g, str(g)) for viewer, g in zip(records, group.tolist())}
    return Study("n2010", [clip], groups, study.notes)


def bare(name: str) -> str:
    """Name of a CW2019 video without its suffixes: _c, "_c 2" (compressed)."""
    return re.sub(r"_c( 2)?$", "", name)


def continues(name: str, whole: str) -> bool:
    """Whether whole begins with name; X_1 is not the beginning of X_10."""
    return bool(name) and re.match(re.escape(name) + r"(?!\d)", whole) is not None


def load_cw2019(root: Path) -> Study:
    """CW2019 as distributed. A record belongs to the video that its movieFileName names."""
    with input_errors(root / "Clips_small_size", "CW2019's clips, .mov"):
        videos = {bare(p.stem): p for p in entries(root / "Clips_small_size", ".mov")}
    description = root / "30s_segment_description.csv"
    with input_errors(description, "columns 'file name' and 'genre category'"):
        genres = {str(row["file name"]): next((ours for word, ours in GENRES.items()
                                               if word in row["genre category"]), "")
                  for row in read_csv(description, ["file name", "genre category"])}
    records: dict[str, list[Path]] = {name: [] for name in [*videos, ""]}  # "": of no video that is there
    for path in sorted((root / "GazeData" / "NV").glob("[!.]*/[!.]*.mat")):
        with input_errors(path, "a .mat file with movieFileName and eyetrackRecord"):
            mat = scipy.io.loadmat(path, variable_names=["movieFileName"], simplify_cells=True)
            name = bare(Path(str(mat["movieFileName"]).replace("\\", "/")).stem)
        if name not in videos:
            name = next((video for video in videos if continues(name, video)), "")
        records[name].append(path)
    study = Study("cw2019", [], scale=CW_SCALE)
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
    with input_errors(video, "a video file that can be decoded"):
        _, (img_h, img_w), _ = next(frames(Clip(video.stem, video, dict)))  # as displayed
    scale, viewers = img_w / DISPLAY[1], {}
    top = max((DISPLAY[0] - img_h / scale) / 2, 0)  # the letterbox, display px
    for path in paths:
        with input_errors(path, "a .mat file with eyetrackRecord.t, x, y, missing"):
            record = scipy.io.loadmat(path, simplify_cells=True)["eyetrackRecord"]
            t, x, y, gone = (np.ravel(record[k]).astype(float) for k in ("t", "x", "y", "missing"))
            x[gone > 0] = np.nan
            viewers[path.parent.name] = np.stack([(t - t[0]) / 1000, x * scale, (y - top) * scale], 1)
    return viewers


# -------------------------------------------------------------------------------- viewers

def watch_all(study: Study, limit: int | None) -> list[Watched]:
    """The clips with a frame that can be decoded. InputError: none, or no four viewers to compare."""
    watched = [watch(clip, limit, study.notes) for clip in study.clips]
    watched = [w for w in watched if len(w.times)]
    if not watched:
        raise InputError("no clip could be decoded: " + "; ".join(study.notes))
    seen = {viewer for w in watched for viewer in w.viewers}
    for names, found in ((study.groups.keys() - seen, "a group, but no gaze"),
                         (seen - study.groups.keys() if study.groups else set(), "gaze, but no group")):
        if names:
            study.notes.append(f"{found}: viewers {', '.join(sorted(names))}")
    met = {viewer for w in watched if len(w.viewers) > 1 for viewer in w.viewers}
    if len(met) < 4:
        raise InputError(f"{len(met)} viewers saw what another saw; at least 4 are needed to place heads. "
                         + "; ".join(study.notes))
    check_places(watched)
    return watched


def watch(clip: Clip, limit: int | None, notes: list[str]) -> Watched:
    """Decodes a clip, to know its times and size, and reads its viewers' gaze. Damage ends the clip, and a
    sentence is added to notes. InputError: frames of different sizes, wrong gaze files."""
    times, sizes = [], set()
    try:
        for now, size, picture in islice(frames(clip), limit):
            sizes.add(size or picture().shape[:2])
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


def align(records: dict[str, np.ndarray], times: np.ndarray, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Gaze on common samples (V, S, 2), NaN where missing, and the frame shown at each sample (S,).

    clip.samples samples a frame at even distances take each viewer's nearest record (authors' CW2019 code).
    N2010 keeps its samples, but those of frames not decoded; the frames are spread evenly over them.
    """
    if clip.relative:
        gaze = np.stack([r[:, 1:] for r in records.values()])  # (V, S, 2)
        share = next(iter(records.values()))[:, 0]
        frame = np.ceil(share * (clip.relative - 1) - .5).astype(int)
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
               notes: list[str]) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """viewers, gaze (V, S, 2), frame (S,) and some of a `Watched`. Gaze outside the frame counts as missing,
    viewers without any are left out; both are noted, with what `check_gaze` finds (whole: no --limit)."""
    records = clip.records()
    if not records:
        return [], np.empty((0, 0, 2)), np.empty(0, int), {}
    at_zero = {viewer: (record[:, 1:] == 0).all(1) for viewer, record in records.items()}
    share = np.concatenate([*at_zero.values()]).mean()
    if clip.lost_at_zero:
        records = {viewer: record.copy() for viewer, record in records.items()}
        for viewer, record in records.items():
            record[at_zero[viewer], 1:] = np.nan
    else:
        notes += [f"{clip.name}: {note}" for note in zero_note(share)]
    gaze, frame = align(records, times, clip)
    missing = np.isnan(gaze).any(2)  # (V, S)
    gaze[missing] = np.nan  # x without y tells nothing
    outside = ((gaze < 0) | (gaze >= size[::-1])).any(2)  # comparisons with NaN are False
    if outside.any():
        share = outside[~missing].mean()
        notes.append(f"{clip.name}: {share:.2%} of the gaze lies outside the frame, so is missing")
        gaze[outside] = np.nan
    if whole and clip.relative not in (0, len(times)):
        notes.append(f"{clip.name}: {len(times)} of {clip.relative} frames; only their gaze is used")
    there = np.isfinite(gaze[:, ~np.isin(frame, clip.blank), 0])  # (V, samples of frames with a picture)
    check_gaze(Watched(clip, times, size, [*records], gaze, frame), records, there, whole, notes)
    seen = there.any(1)
    step = 1 + (sum(map(len, records.values())) - 1) // SOME
    some = {viewer: record[::step] for viewer, record in records.items()}
    return [viewer for viewer, s in zip(records, seen) if s], gaze[seen], frame, some


def check_gaze(w: Watched, records: dict[str, np.ndarray], there: np.ndarray, whole: bool, notes: list[str]
               ) -> None:
    """Notes the share of frames with gaze, viewers with little, lengths that differ. there: (V, samples).
    InputError: a viewer's gaze within 1 px of the corner, or on another clock (`is_other_clock`); of a whole
    clip less than LEAST_GAZE over all viewers, or records more than LONGEST times as long as it."""
    name, share = w.clip.name, there.mean(1)  # (V,)
    for viewer, one in zip(records, share):
        if one < LEAST_GAZE:
            found = f"gaze in {one:.0%} of the frames" if one else "no gaze, left out here"
            notes.append(f"{name}, viewer {viewer}: {found}. {unit_hint(records[viewer], w)}".rstrip(" ."))
        elif is_share(np.nanquantile(records[viewer][:, 1:], .99, axis=0), len(records[viewer])):
            raise InputError(f"{name}, viewer {viewer}: all gaze within 1 px of the corner. "
                             f"{unit_hint(records[viewer], w)}")
    ends, length = [record[-1, 0] for record in records.values()], w.times[-1]
    if whole and not w.clip.relative and abs(max(ends) - length) > .5:
        notes.append(f"{name}: {length:.1f} s of video, {max(ends):.1f} s of gaze; the shorter is used "
                     "(is t_s in s from the first frame?)")
    found = f"{name}: gaze in {share.mean():.0%} of the frames (mean over {len(share)} viewers)"
    stretched = np.median(ends) > LONGEST * length + 1  # never the shares of N2010
    if whole and (stretched or share.mean() < LEAST_GAZE):
        hint = unit_hint(np.concatenate([*records.values()]), w)
        raise InputError(f"{found}, to {np.median(ends):.6g} s; expected t_s in s from the first frame, x_px "
                         f"and y_px in px of {w.size[1]}x{w.size[0]} frames. {hint}".rstrip())
    for viewer, one in zip(records, share):
        if one < LEAST_GAZE and is_other_clock(records[viewer][:, 0], w, whole):
            raise InputError(f"{name}, viewer {viewer}: gaze in {one:.0%} of the frames; expected t_s in s "
                             f"from the first frame. {unit_hint(records[viewer], w)}".rstrip())
    notes.append(found)


def is_other_clock(t: np.ndarray, w: Watched, whole: bool) -> bool:
    """Whether the times of a record are hardly seconds: more than one between two records, or, if the whole
    clip was decoded, LONGEST times as many as it lasts."""
    if len(t) < 3:
        return False
    return bool(np.median(np.diff(t)) > 1 or whole and np.ptp(t) > LONGEST * w.times[-1] + 1)


def check_places(watched: Sequence[Watched]) -> None:
    """InputError: the gaze of all, of one viewer, or on one clip, seems to be in another unit, or counted
    from elsewhere, than px of the frames from the top left (`check_units`)."""
    looks = [(viewer, w.clip.name, with_size(record[:, 1:], w.size))
             for w in watched for viewer, record in w.some.items()]
    check_units(watched[0].clip.source.parent, looks, OUTSIDE)


def unit_hint(record: np.ndarray, w: Watched) -> str:
    """What other unit or clock a record (n, 3) of t_s, x_px, y_px looks like, and what to multiply by or to
    add; "" if none."""
    hints = place_hints(record[:, 1:], w.size)
    if not w.clip.relative:
        hints = clock_hints(record[:, 0], w.times) + hints
    return " ".join(hints)


def clock_hints(t: np.ndarray, times: np.ndarray) -> list[str]:
    """Of the times of a record; times (T,) of the frames."""
    seconds = times[-1] + (times[-1] / (len(times) - 1) if len(times) > 1 else 1)  # of the clip
    ratio, first, factor, hints = np.ptp(t) / seconds, t.min(), 1, []
    clocks = {"tenths of a second": .1, "hundredths of a second": .01, "milliseconds": 1e-3,
              "microseconds": 1e-6, "nanoseconds": 1e-9, "minutes": 60, "hours": 3600,
              "frame numbers": seconds / len(times)}
    if not 1 / LONGEST < ratio < LONGEST:  # a somewhat longer or shorter record is no other unit
        name = min(clocks, key=lambda clock: abs(np.log(max(ratio, 1e-9) * clocks[clock])))
        factor = clocks[name]
        hints.append(f"t_s looks like {name}: multiply it by {factor:.4g}.")
        if not 1 / 1.5 < ratio * factor < 1.5:
            factor, hints = 1, [f"t_s spans {np.ptp(t):.6g}, the clip lasts {seconds:.6g} s."]
    if abs(first * factor) > seconds:
        hints.append(f"t_s begins at {first:.10g}, not with the clip: subtract its value at the first frame.")
    return hints
