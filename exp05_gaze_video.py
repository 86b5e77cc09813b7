"""exp05: where every attention head of a Vision Transformer looks in a video, against where people look.

Yamamoto, Akahoshi & Kitazawa (2025), "Emergence of human-like attention and distinct head clusters in
self-supervised Vision Transformers: a comparative eye-tracking study", Neural Networks 189, 107595,
doi 10.1016/j.neunet.2025.107595. Every head of every block gets a gaze position in every frame, the peak of
its smoothed CLS attention. Heads are placed among the viewers (multidimensional scaling of the distances
between viewers) and compared by their distance from the median viewer; late heads fall into three clusters.

Commands
    laptop, demo world    python exp05_gaze_video.py
    a quick look          python exp05_gaze_video.py --limit 8
    redraw the figures    python exp05_gaze_video.py --plot-only
    one GPU               python exp05_gaze_video.py --data N2010
    own models            python exp05_gaze_video.py --data N2010 --models dino12=RUN1/model.pth
                          dino12=RUN2/model.pth sl12=RUN3/model.pth (made by exp05_train_vits.py)
    eight GPUs            torchrun --nproc_per_node 8 exp05_gaze_video.py --data CW2019 --dtype bfloat16
    two data sets         the same with --compare FOLDER_OF_THE_OTHER_RUN
    go on after a kill    the same command with --resume
Data, one of three layouts
    any      clips/NAME.mp4 or clips/NAME/000001.png; gaze/NAME.csv (viewer, t_s, x_px, y_px; empty: missing).
             Optional: viewers.csv (viewer, group), clips.csv (clip, genre, fps), keypoints/NAME.csv (frame
             from 0, part, x_px, y_px; parts eyes, mouth, animal_eyes, animal_mouth, others), masks/NAME.npz
             (body, ground: frames x img_h x img_w). A clip without gaze counts for its key points (animals).
    N2010    its video in clips/ and allclip1.mat as distributed, or gaze.npz (gaze: viewers x samples x 2,
             x and y in px; group). Blank frames are left out.
    CW2019   as distributed: GazeData/NV/<viewer>/*.mat, Clips_small_size/*.mov, 30s_segment_description.csv
Result, in runs/exp05_gaze_video/<tag>/ or --out: heads_gaze/ (all heads' positions by clip), per_image.csv
(clip x head or viewer), distances.csv (set of clips x head or viewer), compare.csv, similarity.csv,
timecourse.csv, clusters.npz, examples.npz, popout.npz, results.json, and from these files fig_*.png, .pdf.
Time: the demo 100 s on one core, 1.1 GB; a 720x480 frame through one ViT-S, decoding included, 1.2 s on one
core (benchmarks/bench_gaze_video.py) and 0.7 GB.

Paper (N2010, px from the median viewer, medians of the five best heads of six models): DINO with 4, 8 and 12
layers 94.2, 74.8, 62.6; supervised 166.5, 155.7, 147.6. Best head of DINO's own ViT-S/16 53.1, DeiT-S 88.2.
Ours on the demo (320x240 px, one model each, no comparison): 28.5, 22.5, 22.6; 50.1, 28.7, 29.0.
Departures, and + choices where the paper is silent: of equal maxima the first in reading order (authors: any
at random); samples without gaze are left out of the shares of looks (authors: looks at nothing); GBVS without
flicker and motion; + cosine distance between maps; + sides of frames rounded to whole patches (but CW2019);
+ dimension of the scaling at most half the viewers; + no gaze where the next record is over 50 ms away or
outside the frame (CW2019: on the bars above and below, too).
"""
from __future__ import annotations

import argparse
import itertools
import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import scipy.io
import torch
import torch.nn as nn
from scipy import stats
from scipy.cluster import hierarchy
from scipy.optimize import minimize
from scipy.spatial.distance import pdist, squareform
from torch import Tensor
from tqdm import tqdm

from common import (IMAGE_SUFFIXES, IMAGENET, InputError, barrier, cls_attention, init_distributed,
                    input_errors, load_vit, pick_device, rank_world, read_image, read_state_dict,
                    resize_matrix, upsample, vit_from_state)
from gbvs import gbvs
from legacy import (PALETTE, add_common_args, argument_parser, cli, demo_folder, figure_grid,
                     print_paper_vs_ours, read_arrays, read_csv, read_json, redraw, result_row, save_arrays,
                     save_figure, start_run, write_csv, write_json, write_results)
from demo import popout_displays

# -------------------------------------------------------------------------------- constants

# Shapes: B frames of a batch, L blocks, H heads, h, w patch grid; T frames, S gaze samples, V viewers, P key
# points, C traces (heads and GBVS: what looks somewhere in every frame), K late heads. Gaze is x, y in px.
DIM = 32  # dimensions of the scaling for all numbers (authors' code); figures have 2
ADULT = "adult"  # the group of viewers that the others, heads and models are tested against
STARTS = 10  # of the least-squares placement (authors' MultiStart)
BEST = 5  # heads of a model that are compared with viewers
N_CLUSTERS = 3
LATE = {"dino8": (6, 7), "dino12": (8, 9), "dino_vits16": (8, 9)}  # clustered blocks, from 0 (authors' code)
SIGMA = 30.  # px, how far from a key point one still looks at it (authors' code)
FACE = ("eyes", "mouth")
SAMPLES, CW_SAMPLES = 5, 30  # gaze samples a frame: +any layout; CW2019 (authors' code)
MAX_GAP = .05  # s, + between a sample and the nearest record
BLANK = ((140, 155), (311, 326), (538, 553), (740, 772), (911, 926), (1094, 1123), (1319, 1334), (1651, 1666),
         (1835, 1850), (1988, 2003), (2167, 2182), (2326, 2327))  # frames of N2010, from 0, end excluded
N2010_GROUPS = {0: "adult", 1: "child", 3: "child ASD", 4: "adult ASD"}
DISPLAY = (1440, 2560)  # px of CW2019's display: rows, columns
CW_SCALE = .8  # CW2019's frames have ceil(.8 side / 16) 16 px (authors' code)
GENRES = {"cartoon": "animation", "doc": "nature", "drama": "drama"}  # in CW2019's table: ours
CHANNELS = {"GBVS": "DIO", "GBVS colour": "D", "GBVS intensity": "I", "GBVS orientation": "O"}
DEMO_MODELS = ("demo_dino4", "demo_dino8", "demo_dino12", "demo_sl4", "demo_sl8", "demo_sl12")
OFFICIAL = ("dino_vits16", "deit_small_patch16_224")
CHUNK, EXAMPLE = 120, 24  # frames of a part file (what a kill can cost); which of them the figures show
# The paper's numbers on N2010: px (medians of five best heads of six models; best head of OFFICIAL), % and r
PAPER = {"dino4": 94.2, "dino8": 74.8, "dino12": 62.6, "sl4": 166.5, "sl8": 155.7, "sl12": 147.6,
         "dino_vits16": 53.1, "deit_small_patch16_224": 88.2, "GBVS": 137.0}
PAPER_SHARES = {"eyes": (43.1, 26.4, 42.4), "mouth": (12.4, 19.2, 31.9),
                "face": (65.7, 66.2, 92.0)}  # adult, child, G1
PAPER_SIZES = {"G1": 16.7, "G2": 63.9, "G3": 19.4}  # % of the late heads
PAPER_COURSE = {"child": .832, "adult ASD": .795, "child ASD": .776, "G1": .425}  # r with adults
PAPER_ANIMALS = .749  # r, over late heads
COLOURS = {"G1": "#d62728", "G2": "#2ca02c", "G3": "#8c564b"}


# -------------------------------------------------------------------------------- data

@dataclass
class Clip:
    """A video and its viewers' gaze. records() gives {viewer: (n, 3) t_s, x_px, y_px}, read when needed."""
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


@dataclass
class Study:
    layout: str
    clips: list[Clip]
    groups: dict[str, str] = field(default_factory=dict)  # viewer -> group
    notes: list[str] = field(default_factory=list)  # faults of the data and how they were dealt with


def gaze_csv(path: Path) -> dict[str, np.ndarray]:
    """{viewer: (n, 3) t_s, x_px, y_px in order of time} of gaze/NAME.csv; empty coordinates are NaN."""
    viewers: dict[str, list] = {}
    with input_errors(path, "columns viewer, t_s, x_px, y_px; numbers, the last two empty if missing"):
        for row in read_csv(path) if path.is_file() else []:
            xy = [np.nan if row[k] == "" else float(row[k]) for k in ("x_px", "y_px")]
            viewers.setdefault(row["viewer"], []).append([float(row["t_s"]), *xy])
    return {k: np.array(sorted(v)) for k, v in viewers.items()}


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


def load_any(root: Path) -> Study:
    """The generic layout of the card, also the demo world's."""
    def table(name: str, key: str) -> dict[str, dict]:
        with input_errors(root / name, f"a CSV file with a column {key}"):
            return {r[key]: r for r in read_csv(root / name)} if (root / name).is_file() else {}
    info, clips, names = table("clips.csv", "clip"), [], set()
    for s in sorted((root / "clips").iterdir()):
        if s.is_dir() or s.suffix.lower() in (".mp4", ".mov", ".avi", ".mkv"):
            name = s.name if s.is_dir() else s.stem
            row = info.get(name, {})
            rate = row.get("fps") or None
            if name in names:
                raise InputError(f"{root / 'clips'}: two clips are called {name}; rename one of them.")
            if rate is not None and not (isinstance(rate, float) and 0 < rate < math.inf):
                raise InputError(f"{s}: {rate!r} frames/s in clips.csv; expected a number above 0.")
            names.add(name)
            points, masks = (p if p.is_file() else None for p in
                             (root / "keypoints" / f"{name}.csv", root / "masks" / f"{name}.npz"))
            clips.append(Clip(name, s, partial(gaze_csv, root / "gaze" / f"{name}.csv"),
                              str(row.get("genre", "")), rate, points=points, masks=masks))
    groups = {v: r.get("group", "") for v, r in table("viewers.csv", "viewer").items()}
    given = (p for folder in ("gaze", "keypoints", "masks") for p in sorted((root / folder).glob("[!.]*.*")))
    return Study("any", clips, groups, [f"{p.parent.name}/{p.name}: no clip has this name, so not used"
                                        for p in given if p.stem not in names])


def load_n2010(root: Path) -> Study:
    """N2010: one video; allclip1.mat (eyeclip1, goodsubj and gr from 1) or gaze.npz (gaze, group)."""
    study, mat = load_any(root), root / "allclip1.mat"
    path = mat if mat.is_file() else root / "gaze.npz"
    expected = "gaze (viewers, samples, 2) in px and group; or eyeclip1, goodsubj and gr"
    with input_errors(path, expected):
        if path == mat:
            m = scipy.io.loadmat(mat, simplify_cells=True)
            good = np.ravel(m["goodsubj"]).astype(int) - 1
            gaze = np.stack([m["eyeclip1"][i] for i in good]).astype(float)
            group = np.ravel(m["gr"])[good] - 1
        else:
            m = read_arrays(path, expected)
            gaze, group = m["gaze"].astype(float), m.get("group", np.array([]))
        if gaze.ndim != 3 or gaze.shape[2] != 2 or len(group) not in (0, len(gaze)) or len(study.clips) != 1:
            raise ValueError(f"gaze of shape {gaze.shape}, {len(group)} groups, {len(study.clips)} videos")
    t = np.linspace(0, 1, gaze.shape[1])[:, None]
    records = {f"viewer{i:03d}": np.concatenate([t, g], 1) for i, g in enumerate(gaze)}
    clip = study.clips[0]
    clip.records, clip.relative, clip.genre = lambda: records, BLANK[-1][1], ""
    clip.blank = tuple(i for a, b in BLANK for i in range(a, b))
    return Study("n2010", [clip], {v: N2010_GROUPS.get(g, str(g)) for v, g in zip(records, group.tolist())})


def load_cw2019(root: Path) -> Study:
    """CW2019 as distributed. A record belongs to the video that its movieFileName names."""
    videos = {p.stem: p for p in sorted((root / "Clips_small_size").glob("*.mov"))}
    bare = {re.sub(r"_c( 2)?$", "", v): v for v in videos}  # suffix: compressed

    def begins(name: str, whole: str) -> bool:  # X_1 is not the beginning of X_10
        return bool(name) and re.match(re.escape(name) + r"(?!\d)", whole) is not None
    of_clip, study, table = {}, Study("cw2019", []), root / "30s_segment_description.csv"
    with input_errors(table, "columns 'file name' and 'genre category'"):
        genre = {str(r["file name"]): next((g for k, g in GENRES.items() if k in r["genre category"]), "")
                 for r in read_csv(table)}
    for path in sorted((root / "GazeData" / "NV").glob("*/*.mat")):
        with input_errors(path, "a .mat file with movieFileName and eyetrackRecord"):
            name = scipy.io.loadmat(path, variable_names=["movieFileName"],
                                    simplify_cells=True)["movieFileName"]
            name = re.sub(r"_c( 2)?$", "", Path(str(name).replace("\\", "/")).stem)
        video = bare.get(name) or next((v for k, v in bare.items() if begins(name, k)), "")
        of_clip.setdefault(video, []).append(path)
    if lost := of_clip.pop("", []):
        study.notes.append(f"{len(lost)} gaze records of videos that Clips_small_size lacks were left out")
    for name, video in bare.items():
        if paths := of_clip.get(video):
            kind = genre.get(name) or next((g for k, g in genre.items() if begins(k, name)), "")
            study.clips.append(Clip(video, videos[video], partial(gaze_mats, paths, videos[video]), kind,
                                    samples=CW_SAMPLES))
    return study


def load_study(data: str, seed: int = 0) -> Study:
    """Recognises the layout of a folder; "demo": the demo world's videos."""
    root = demo_folder("videos", seed=seed) / "videos" if data == "demo" else Path(data)
    if (root / "GazeData" / "NV").is_dir():
        study = load_cw2019(root)
    elif not (root / "clips").is_dir():
        raise InputError(f"{root}: no folder clips, no GazeData/NV; expected one of the layouts of --help.")
    else:
        arrays = (root / "gaze.npz").is_file() or (root / "allclip1.mat").is_file()
        study = (load_n2010 if arrays else load_any)(root)
    if not study.clips:
        raise InputError(f"{root}: no clips; expected video files or folders of frames in clips, or CW2019.")
    return study


class UnknownRate(InputError):
    """A folder of frames that nothing says how to time."""


def frames(source: Path, fps: float | None,
           notes: list[str]) -> Iterator[tuple[float, Callable[[], np.ndarray]]]:
    """(seconds since the first frame, function that gives the picture (img_h, img_w, 3) in RGB), one by one.

    Times are the file's own, so a variable frame rate is kept. Damage ends the clip: the frames before it
    have been given then, and a sentence is added to notes.
    """
    n, expected, start = 0, 0, None
    try:
        paths = [p for p in source.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES] if source.is_dir() else []
        if len(paths) > 1 and not fps:
            raise UnknownRate(f"{source}: frames without a rate; add a column fps to clips.csv.")
        for n, path in enumerate(sorted(paths, key=lambda p: (int(re.sub(r"\D", "", p.stem) or 0), p.name))):
            image = np.asarray(read_image(path))
            yield n / (fps or 1), lambda image=image: image
        if source.is_dir():
            if not paths:
                raise ValueError("no images in it")
            return
        with av.open(str(source)) as file:
            stream = file.streams.video[0]
            stream.codec_context.options = {"err_detect": "explode"}  # damage must not be painted over
            stream.thread_type, expected = "AUTO", stream.frames
            for frame in file.decode(stream):
                if frame.is_corrupt:
                    raise ValueError("a damaged frame")
                now = n / float(stream.average_rate) if frame.time is None else frame.time
                start = now if start is None else start
                yield now - start, partial(frame.to_ndarray, format="rgb24")
                n += 1
        if n < max(expected, 1):
            raise ValueError(f"the file ends early, it announces {expected}")
    except UnknownRate:
        raise
    except Exception as e:  # a damaged file fails in many ways, such as a stream that no codec is known for
        notes.append(f"{source.name}: damaged after {n} frames ({e}); the frames before the damage are used")


def align(records: dict[str, np.ndarray], times: np.ndarray, clip: Clip) -> tuple[np.ndarray, np.ndarray]:
    """Gaze on common samples (V, S, 2), NaN where missing, and the frame shown at each sample (S,).

    clip.samples samples a frame at even distances take each viewer's nearest record (authors' CW2019 code).
    N2010 keeps its samples, but those of frames not decoded; the frames are spread evenly over them.
    """
    if clip.relative:
        gaze = np.stack([r[:, 1:] for r in records.values()])  # (V, S, 2)
        frame = np.ceil(next(iter(records.values()))[:, 0] * (clip.relative - 1) - .5).astype(int).clip(0)
        gaze, frame = gaze[:, frame < len(times)], frame[frame < len(times)]
    else:
        edges = np.append(times, times[-1] + (np.median(np.diff(times)) if len(times) > 1 else 1 / 24))
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
    for t, k in ((t, k) for t, row in enumerate(rows) for k in range(len(row))):
        parts[t, k], *points[t, k] = rows[t][k]
    return points, parts


# -------------------------------------------------------------------------------- model

class Model(NamedTuple):
    kind: str  # what is compared: dino4 ... sl12, or the name of an official model
    name: str  # kind.run
    net: nn.Module
    mean: Tensor  # (3, 1, 1)
    std: Tensor


def load_models(names: list[str], weights: Path | None, device: torch.device) -> list[Model]:
    """NAME of common.WEIGHTS, or KIND=FILE, KIND dino4 ... sl12 (six heads, of exp05_train_vits.py)."""
    models = []
    for name in names:
        kind, _, file = name.partition("=")
        if file and not re.fullmatch(r"(dino|sl)\d+", kind):
            raise InputError(f"--models {name}: expected KIND=FILE with a kind like dino12 or sl4.")
        if file:
            net, norm = vit_from_state(read_state_dict(file), num_heads=6), IMAGENET
            if len(net.blocks) != int(re.sub(r"\D", "", kind)) or net.embed_dim not in (96, 384):
                raise InputError(f"--models {name}: {len(net.blocks)} blocks, {net.embed_dim} wide; "
                                 f"expected the blocks that {kind} says, 96 or 384 wide.")
        else:
            net, pre = load_vit(name, weights)
            kind, norm = name.removeprefix("demo_"), (pre.mean, pre.std)
        if net.pos_rule == "size":
            net.pos_rule = "offset"  # the authors run DINO's interpolation on supervised models too
        mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in norm)
        models.append(Model(kind, f"{kind}.{sum(m.kind == kind for m in models)}", net.to(device), mean, std))
    return models


def corner_means(n: int, patch: int) -> tuple[Tensor, Tensor]:
    """(n + 1, n): weights of a line's n patches in its n + 1 box means that can be the largest, and where.

    Means over 2 patch px of a line that is constant within patches are linear between the pixels patch k - 1.
    Borders are reflected: the box at pixel 0 holds 2 patch - 1 times the first patch, once the second; so do,
    at the other end, the boxes at the last two pixels, of which the first is taken.
    """
    weight = (torch.eye(n + 1, n) + torch.eye(n + 1, n).roll(1, 0)) / 2
    edge = torch.tensor([2 * patch - 1., 1.]) / (2 * patch)
    weight[0], weight[-1] = 0, 0
    weight[0, :2], weight[-1, -2:] = edge, edge.flip(0)
    return weight, (torch.arange(n + 1) * patch - 1).clamp(0, n * patch - 2)


def head_gaze(attn: Tensor, patch: int) -> Tensor:
    """Peak of smoothed attention: attn (..., h, w), both at least 2 -> (..., 2) x, y in px of the input.

    The authors': nearest up-sampling by `patch`, mean over boxes of 2 patch px (patch - 1 before, patch after
    the pixel, borders reflected), arg-max; here exactly, from (h + 1)(w + 1) boxes instead of one for every
    pixel. Of equal maxima the first in reading order.
    """
    (rows, y), (cols, x) = (corner_means(n, patch) for n in attn.shape[-2:])
    boxes = rows.to(attn.device) @ attn.float() @ cols.to(attn.device).T  # (..., h + 1, w + 1)
    best = boxes.flatten(-2).argmax(-1).cpu()
    return torch.stack([x[best % len(x)], y[best // len(x)]], -1).float()


def area_matrix(n_in: int, n_out: int) -> Tensor:
    """(n_out, n_in): resampling by means over the area of each output pixel (OpenCV's INTER_AREA)."""
    edges, pixel = torch.arange(n_out + 1.) * n_in / n_out, torch.arange(float(n_in))
    overlap = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return overlap.clamp(min=0) * n_out / n_in


def resized(images: Tensor, patch: int, scale: float | None) -> Tensor:
    """(B, 3, img_h, img_w) uint8 -> RGB in [0, 1] with sides of whole patches: the nearest, or with a scale
    the next above scale x side. By area, rounded to 8 bits as in a file."""
    def side(n: int) -> int:
        return max(2, math.ceil(scale * n / patch) if scale else round(n / patch)) * patch
    rows, cols = (area_matrix(n, side(n)).to(images.device) for n in images.shape[-2:])
    return (rows @ images.float() @ cols.T).round() / 255


def saliency_gaze(rgb: Tensor, channels: str) -> Tensor:
    """Peak of the GBVS map at full size: (B, 3, img_h, img_w) in [0, 1] -> (B, 2) x, y."""
    try:
        m = gbvs(rgb, channels)
    except ValueError as error:  # frames that are too small
        raise InputError(str(error)) from error
    rows, cols = (resize_matrix(a, b, "bicubic").to(m) for a, b in zip(m.shape[-2:], rgb.shape[-2:]))
    best = (rows @ m @ cols.T).flatten(1).argmax(1).cpu()
    return torch.stack([best % rgb.shape[-1], best // rgb.shape[-1]], -1).float()


# -------------------------------------------------------------------------------- measure

def trace_table(models: list[Model], late: dict[str, tuple], with_gbvs: bool) -> list[dict]:
    """What looks somewhere in every frame, in the order of the arrays: every head, then GBVS."""
    rows = [dict(condition=f"{m.name} block {b} head {i}", kind=m.kind, model=m.name, block=b, head=i,
                 cluster="late" if b in late.get(m.kind, ()) else "")
            for m in models for b in range(len(m.net.blocks)) for i in range(m.net.num_heads)]
    return rows + [dict(condition=c, kind="GBVS", model="", block="", head="", cluster="")
                   for c in CHANNELS if with_gbvs]


@torch.inference_mode()
def look(images: Tensor, models: list[Model], late: dict, scale: float | None, with_gbvs: bool, dtype: str):
    """A batch of frames, uint8 (B, 3, img_h, img_w) -> gaze (C, B, 2) in the frames' px, the late heads' maps
    (B, K, h, w) or None, mean cosine between the maps of a block's heads (B, blocks of all models)."""
    gaze, maps, alike = [], [], []
    whole = torch.tensor(images.shape[:-3:-1])  # width, height

    def in_frame(xy: Tensor, x: Tensor) -> Tensor:
        return xy * whole / torch.tensor(x.shape[:-3:-1])
    for m in models:
        x = (resized(images, m.net.patch_size, scale) - m.mean) / m.std
        with torch.autocast(x.device.type, torch.bfloat16, enabled=dtype == "bfloat16"):
            attn = cls_attention(m.net, x)  # (B, L, H, h, w)
        gaze.append(in_frame(head_gaze(attn, m.net.patch_size), x).flatten(1, 2).transpose(0, 1))
        unit, n = nn.functional.normalize(attn.flatten(-2), dim=-1), attn.shape[2]  # (B, L, H, N)
        alike.append((unit.sum(2).square().sum(-1) - n) / max(n * (n - 1), 1))  # mean over pairs, (B, L)
        maps += [attn[:, b] for b in late.get(m.kind, ()) if b < attn.shape[1]]
    if with_gbvs:
        rgb = resized(images, 1, scale)
        gaze += [in_frame(saliency_gaze(rgb, c), rgb)[None] for c in CHANNELS.values()]
    if len({a.shape[-2:] for a in maps}) > 1:
        raise InputError("the clustered models have different patch sizes; name one of them with --cluster.")
    return torch.cat(gaze), torch.cat(maps, 1) if maps else None, torch.cat(alike, 1).cpu().double()


def cosine_distances(maps: Tensor) -> np.ndarray:
    """1 - cosine between the maps of a frame: (B, K, h, w) -> (B, K, K)."""
    unit = nn.functional.normalize(maps.flatten(2).float(), dim=-1)
    return (1 - unit @ unit.mT).clamp(min=0).cpu().double().numpy()


def watch_chunk(pictures: list, start: int, clip: Clip, see: Callable, batch: int,
                device: torch.device) -> dict:
    """The arrays of one part file; pictures: functions that give the clip's frames start, start + 1, ..."""
    gaze, alike, apart, example = [], [], [], {}
    for i in range(0, len(pictures), batch):
        shots = [load() for load in pictures[i:i + batch]]
        if len({s.shape for s in shots}) > 1:
            raise InputError(f"{clip.source}: frame sizes differ from frame {start + i} on; make them equal.")
        xy, maps, cosine = see(torch.from_numpy(np.stack(shots)).to(device).permute(0, 3, 1, 2))
        index = np.arange(start + i, start + i + len(shots))
        shown = ~np.isin(index, clip.blank)
        gaze.append(xy.numpy())
        alike.append(cosine.numpy()[shown])
        apart += [] if maps is None else [cosine_distances(maps)[shown]]
        for k in np.flatnonzero(shown & (index - start <= EXAMPLE)):  # the last one stays
            example = dict(picture=shots[k], number=index[k])
            example |= {} if maps is None else dict(maps=maps[k].cpu().half().numpy())
    return dict(gaze=np.concatenate(gaze, 1), alike=np.concatenate(alike).sum(0), n=sum(map(len, alike)),
                apart=sum((a.sum(0) for a in apart), np.zeros(()))) | example


def watch(clip: Clip, number: int, folder: Path, see: Callable, batch: int, limit: int | None,
          device: torch.device) -> None:
    """Stream a clip through all models: a part file for every CHUNK frames, which is all that memory holds.
    Processes take turns; parts that exist are kept. NAME.json, written last, says what the clip was."""
    (rank, world), info = rank_world(), folder / f"{clip.name}.json"
    parts = [folder / f"{clip.name}.{k:04d}.npz" for k in range(10_000)]
    if info.exists():
        with input_errors(info, "the number of frames; remove it or choose another --out"):
            n_parts = math.ceil(read_json(info)["frames"] / CHUNK)
        if all(p.exists() for p in parts[:n_parts]):
            return
    times, notes, size = [], [], None
    source = itertools.islice(frames(clip.source, clip.fps, notes), limit)
    for k, part in enumerate(parts):
        chunk = list(itertools.islice(source, CHUNK))
        if not chunk:
            break
        size = size or chunk[0][1]().shape[:2]
        if (number + k) % world == rank and not part.exists():
            pictures = [load for _, load in chunk]
            save_arrays(part, **watch_chunk(pictures, len(times), clip, see, batch, device))
        times += [t for t, _ in chunk]
    if rank == 0:
        write_json(dict(frames=len(times), times=times, size=size, notes=notes), info)


def median_distance(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Median over time of the px between the traces a (S, 2) and b (V, S, 2): (V,), NaN ignored."""
    d = np.sort(np.hypot(*np.moveaxis(b - a, -1, 0)), axis=1)  # (V, S), NaN last
    n = np.isfinite(d).sum(1, keepdims=True)
    middle = [np.take_along_axis(d, i.clip(0, max(d.shape[1] - 1, 0)), 1) for i in ((n - 1) // 2, n // 2)]
    return np.where(n > 0, sum(middle) / 2, np.nan)[:, 0]


def viewing_proportion(gaze: np.ndarray, points: np.ndarray, sigma: float = SIGMA) -> np.ndarray:
    """How much of each look goes to each key point: gaze (..., 2), points (..., P, 2) -> (..., P).

    exp(-distance^2 / (2 sigma^2)), divided by its sum over the points where that exceeds 1. An absent point
    (NaN) gets 0; all are NaN without gaze.
    """
    w = np.exp(np.square(gaze[..., None, :] - points).sum(-1) / (-2 * sigma**2))
    w = np.where(np.isnan(points[..., 0]), 0 * gaze[..., :1], w)
    return w / np.maximum(w.sum(-1, keepdims=True), 1)


def part_shares(gaze: np.ndarray, points: np.ndarray, parts: np.ndarray) -> dict[str, float]:
    """Share of the looks (S, 2) at each part in %, over the samples where it exists; face = eyes + mouth."""
    w, out = viewing_proportion(gaze, points), {}  # (S, P)
    members = {str(p): (p,) for p in np.unique(parts) if p}
    members |= {f"{kind}face": [kind + p for p in FACE] for kind in ("", "animal_")}
    for name, of in members.items():
        mine = np.isin(parts, of)
        there = mine.any(1) & np.isfinite(gaze[:, 0])
        if there.any():
            out[name] = float(100 * (w * mine)[there].sum(1).mean())
    return out


def mask_shares(gaze: np.ndarray, frame: np.ndarray, masks: dict[str, np.ndarray]) -> dict[str, float]:
    """Share of the looks (S, 2) inside each mask (T, img_h, img_w) in %; frame (S,)."""
    seen = np.isfinite(gaze[:, 0])
    x, y = gaze[seen].astype(int).T
    return {k: float(100 * m[frame[seen], y, x].mean()) for k, m in masks.items() if seen.any()}


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


@dataclass
class Seen:
    """A clip after the models: gaze of the C traces (C, T, 2), of its viewers (V, S, 2), their distances."""
    clip: Clip
    traces: np.ndarray
    viewers: list[str]
    gaze: np.ndarray
    frame: np.ndarray  # (S,)

    def __post_init__(self) -> None:
        # (C, V) and (V, V), px
        self.to_viewers = np.array([median_distance(t[self.frame], self.gaze) for t in self.traces])
        self.between = np.array([median_distance(g, self.gaze) for g in self.gaze])
        n, path = self.traces.shape[1], self.clip.masks
        self.points, self.parts = key_points(self.clip.points, n) if self.clip.points else (None, None)
        self.masks = {}
        if path:
            with input_errors(path, expected := "arrays body and ground: frames x img_h x img_w"):
                masks = read_arrays(path, expected)
                self.masks = {k: masks[k][:n] for k in ("body", "ground")}


def gather(study: Study, folder: Path, whole: bool) -> tuple[list[Seen], dict, list[dict]]:
    """All part files put together: [Seen], sums over all frames (alike, apart, n), example frames."""
    seen, sums, examples = [], dict(alike=0, apart=0, n=0), []
    for clip in study.clips:
        info, traces = read_json(folder / f"{clip.name}.json"), []
        study.notes += info["notes"]
        for k in range(math.ceil(info["frames"] / CHUNK)):
            part = read_arrays(file := folder / f"{clip.name}.{k:04d}.npz")
            with input_errors(file, "a part of this run; remove it or choose another --out"):
                traces.append(part.pop("gaze"))
                sums = {k: v + part.pop(k) for k, v in sums.items()}
            examples += [part | {"clip": clip.name}] if part else []  # picture, number, maps
        if traces:
            viewers = viewers_of(clip, np.array(info["times"]), info["size"], whole, study.notes)
            seen.append(Seen(clip, np.concatenate(traces, 1), *viewers))
            for k, m in seen[-1].masks.items():
                if m.shape != (expected := (info["frames"], *info["size"])):
                    raise InputError(f"{clip.masks}: {k} has shape {m.shape}, its clip {expected}; make "
                                     "them equal (frames, img_h, img_w).")
    if not seen:
        raise InputError("no clip could be decoded: " + "; ".join(study.notes))
    return seen, sums, examples


def distance_sets(seen: list[Seen], pooled: bool) -> dict[str, dict]:
    """{set: names (V) of viewers, traces to viewers (C, V), viewers to viewers (V, V), unit}; all, genres.

    "all" pooled (N2010): medians over the time of all clips, px. Else, and genres (CW2019): each clip's
    medians divided by their median over its pairs of viewers, then the mean over clips. Pairs that never met
    get the median of their column, averaged over both halves; a viewer who met nobody is left out.
    """
    seen, sets = [s for s in seen if s.viewers], {}
    names = sorted({v for s in seen for v in s.viewers})
    if len(names) < 4:
        raise InputError(f"{len(names)} viewers have gaze; at least 4 are needed to place heads among them.")

    def wide(s: Seen, values: np.ndarray, axis: int) -> np.ndarray:  # all viewers, NaN for other clips'
        index = [s.viewers.index(v) if v in s.viewers else -1 for v in names]
        nobody = np.full_like(values.take([0], axis), np.nan)
        return np.concatenate([values, nobody], axis).take(index, axis)
    if pooled:
        gaze = np.concatenate([wide(s, s.gaze, 0) for s in seen], 1)  # (V, S, 2)
        traces = (np.concatenate([s.traces[c][s.frame] for s in seen]) for c in range(len(seen[0].traces)))
        sets["all"] = dict(unit="px", traces=np.array([median_distance(t, gaze) for t in traces]),
                           viewers=np.array([median_distance(g, gaze) for g in gaze]))
    for genre in ([] if pooled else [""]) + sorted({s.clip.genre for s in seen} - {""}):
        mine = [(s, np.nanmedian(pairs)) for s in seen if genre in ("", s.clip.genre)
                and np.isfinite(pairs := s.between[np.triu_indices(len(s.viewers), 1)]).any()]
        if mine:
            sets[genre or "all"] = dict(
                unit="median between viewers",
                traces=nan_mean([wide(s, s.to_viewers, 1) / unit for s, unit in mine]),
                viewers=nan_mean([wide(s, wide(s, s.between, 1), 0) / unit for s, unit in mine]))
    for one in sets.values():
        d = np.where(np.eye(len(names), dtype=bool), np.nan, one["viewers"])
        met = np.isfinite(d).any(1)
        d = d[np.ix_(met, met)]
        d = np.where(np.isnan(d), np.nanmedian(d, 0), d) * (1 - np.eye(len(d)))
        one |= dict(names=[v for v, m in zip(names, met) if m], traces=one["traces"][:, met],
                    viewers=(d + d.T) / 2)
    if not (sets := {k: v for k, v in sets.items() if len(v["names"]) >= 4}):
        raise InputError("no 4 viewers who saw what another saw; give clips that several people watched.")
    return sets


def pop_out(see: Callable, labels: np.ndarray, device: torch.device, path: Path) -> dict:
    """popout.npz: displays, mean maps of the clusters, GBVS, 256 px. Returns the lift: share of the map on
    the odd item less the item's share of the area, in points."""
    shown = popout_displays()
    images, odd = (np.stack(v) for v in zip(*shown.values()))
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    late = see(x)[1].float()  # (5, K, h, w)
    maps = {f"G{k}": late[:, torch.from_numpy(labels == k)].mean(1) for k in range(1, N_CLUSTERS + 1)}
    maps = {k: upsample(m, (256, 256)).cpu().numpy()
            for k, m in (maps | {"GBVS": gbvs(x.float() / 255)}).items()}
    save_arrays(path, images=images, names=list(shown), **maps)
    return {name: {g: float(100 * (m[i][odd[i]].sum() / max(m[i].sum(), 1e-12) - odd[i].mean()))
                   for g, m in maps.items()}
            for i, name in enumerate(shown)}


def save_examples(seen: list[Seen], examples: list[dict], labels: np.ndarray, late: np.ndarray, best: int,
                  groups: dict, path: Path, n: int = 6) -> None:
    """examples.npz: up to n frames, the gaze of viewers, late heads and the best head, the clusters' maps."""
    n, arrays = min(n, len(examples)), {}
    for i, e in enumerate(examples[j * len(examples) // n] for j in range(n)):
        s = next(s for s in seen if s.clip.name == e["clip"])
        now = np.flatnonzero(s.frame == e["number"])
        arrays |= {f"picture{i}": e["picture"], f"title{i}": f"{e['clip']}, frame {e['number']}",
                   f"viewers{i}": s.gaze[:, now[len(now) // 2]] if len(now) else np.empty((0, 2)),
                   f"groups{i}": np.array([groups.get(v, "") for v in s.viewers], dtype=str),
                   f"best{i}": s.traces[best, e["number"]], f"heads{i}": s.traces[late, e["number"]],
                   f"maps{i}": np.array([e["maps"][labels == k].astype(np.float32).mean(0)
                                         for k in set(labels.tolist())])}
    save_arrays(path, n=n, labels=labels, **arrays)


def nan_mean(arrays: list[np.ndarray]) -> np.ndarray:
    """Mean over the arrays, NaN ignored; NaN where all are."""
    n = np.isfinite(arrays).sum(0)
    return np.where(n > 0, np.nansum(arrays, 0) / np.maximum(n, 1), np.nan)


# -------------------------------------------------------------------------------- statistics

def by(rows: list[dict], *keys: str) -> dict:
    """{value of a column, or tuple of values of several: its rows}, in order of appearance."""
    groups: dict = {}
    for r in rows:
        groups.setdefault(r[keys[0]] if len(keys) == 1 else tuple(r[k] for k in keys), []).append(r)
    return groups


def column(rows: list[dict], key: str) -> list:
    """The values of a column that are there."""
    return [r[key] for r in rows if r.get(key, "") != ""]


def classical(D: np.ndarray) -> np.ndarray:
    """Classical scaling: (n, n) distances -> (n, n) coordinates, the longest axis first."""
    centre = np.eye(len(D)) - 1 / len(D)
    value, vector = np.linalg.eigh(-.5 * centre @ D**2 @ centre)
    return (vector * np.sqrt(value.clip(min=0)))[:, ::-1]


def mds(D: np.ndarray, dim: int) -> np.ndarray:
    """Coordinates (n, dim) whose distances come nearest to D (n, n): least squared errors over the pairs.

    Metric stress from the classical solution, as MATLAB's mdscale does; by quasi-Newton steps, which reach
    the minimum that SMACOF creeps to. Centred on the mean.
    """
    n, scale = len(D), D.max() or 1.
    start, delta = np.zeros((n, dim)), D / scale
    axes = classical(delta)[:, :dim]
    start[:, :axes.shape[1]] = axes

    def error(flat: np.ndarray) -> tuple[float, np.ndarray]:
        x = flat.reshape(n, dim)
        d = squareform(pdist(x))
        ratio = (d - delta) / np.where(d > 0, d, 1)  # (n, n)
        return np.square(d - delta).sum() / 2, 2 * (ratio.sum(1, keepdims=True) * x - ratio @ x).ravel()
    x = minimize(error, start.ravel(), jac=True, method="L-BFGS-B",
                 options=dict(maxiter=20000, maxfun=20000, ftol=1e-13, gtol=1e-8)).x.reshape(n, dim)
    return (x - x.mean(0)) * scale


def stress(D: np.ndarray, x: np.ndarray) -> float:
    """sqrt(sum of squared errors / sum of squared distances wanted), over pairs."""
    wanted = squareform(D, checks=False)
    return float(np.sqrt(np.square(pdist(x) - wanted).sum() / np.square(wanted).sum()))


def place(distances: np.ndarray, coords: np.ndarray, starts: int = STARTS, seed: int = 0) -> np.ndarray:
    """Points at given distances from fixed ones: distances (..., V), coords (V, dim) -> (..., dim).

    Least squares of |point - coords| - distance by Levenberg-Marquardt, the best of `starts` starts: the
    origin, then normal draws as wide as the coordinates. NaN distances do not count.
    """
    wanted = np.reshape(distances, (-1, len(coords))).astype(float)
    chunks = np.array_split(wanted, -(-len(wanted) // 16))  # the starts of 16 points at a time
    found = np.concatenate([place_chunk(d, coords, starts, seed) for d in chunks])
    return found.reshape(*np.shape(distances)[:-1], coords.shape[1])


def place_chunk(wanted: np.ndarray, coords: np.ndarray, starts: int, seed: int) -> np.ndarray:
    """(b, V), (V, dim) -> (b, dim), see place."""
    b, dim = len(wanted), coords.shape[1]
    known, target = np.isfinite(wanted)[:, None], np.nan_to_num(wanted)[:, None]  # (b, 1, V)
    x = np.random.default_rng([seed, starts]).normal(0, np.sqrt(coords.var(0).mean()), (starts, dim))
    x[0] = 0
    x, damping = np.tile(x, (b, 1, 1)), np.ones((b, starts, 1, 1))

    def residuals(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = x[..., None, :] - coords  # (b, starts, V, dim)
        length = np.maximum(np.linalg.norm(away, axis=-1), 1e-12)
        return (length - target) * known, away / length[..., None] * known[..., None]
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
    return x[np.arange(b), np.square(r).sum(-1).argmin(1)]


def from_median(points: np.ndarray, viewers: np.ndarray) -> np.ndarray:
    """MDS distance: of points (..., dim) from the component-wise median of the viewers (V, dim)."""
    return np.linalg.norm(points - np.median(viewers, 0), axis=-1)


def place_all(sets: dict[str, dict], dim: int = DIM) -> None:
    """Adds to every set: viewers' and traces' coordinates (also in 2-D), MDS distances, stress."""
    for one in sets.values():
        one["dim"] = min(dim, (len(one["names"]) + 1) // 2)  # few viewers do not fix many dimensions
        for key, d in (("", one["dim"]), ("_2d", 2)):
            one["people" + key] = mds(one["viewers"], d)
            one["points" + key] = place(one["traces"], one["people" + key])
            one["stress" + key] = stress(one["viewers"], one["people" + key])
        one["distance"] = from_median(one["points"], one["people"])
        one["people_distance"] = from_median(one["people"], one["people"])


def best_heads(rows: list[dict]) -> np.ndarray:
    """The BEST smallest distances of every model, joined."""
    return np.concatenate([np.sort(column(of, "distance"))[:BEST] for of in by(rows, "model").values()])


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


def compare_all(rows: list[dict]) -> list[dict]:
    """The paper's tests in each set of distances.csv: every condition and group of viewers against adults
    (all viewers if there are none), DINO against supervised at each depth. Units: the five best heads of
    every model together (the paper's), then the model (median of its five), from three models on."""
    tests = []
    for where, of in by(rows, "set").items():
        kinds = by(of, "kind")
        people = {k: column(v, "distance") for k, v in kinds.items() if k.startswith("viewer")}
        name = f"viewer {ADULT}" if f"viewer {ADULT}" in people else "all viewers"
        adults = people.pop(name, None) or sum(people.values(), [])
        people = {} if name == "all viewers" else people  # who belong to it
        models = {k: v for k, v in kinds.items() if v[0]["model"]}
        heads = {k: best_heads(v) for k, v in models.items()}
        per_model = {k: [np.median(best_heads(m)) for m in by(v, "model").values()]
                     for k, v in models.items()}
        saliency = {"GBVS": column(kinds["GBVS"], "distance")} if "GBVS" in kinds else {}
        for unit, values in (("heads", people | heads | saliency), ("models", per_model)):
            values = {k: v for k, v in values.items() if len(v) > (1 if unit == "heads" else 2)}
            tests += [compare(f"{where}, {unit}: {k} vs {name}", v, adults, len(values))
                      for k, v in values.items() if len(adults) > 1]
            tests += [compare(f"{where}, {unit}: {k} vs {other}", values[k], values[other]) for k in values
                      if (other := k.replace("dino", "sl")) != k and other in values]
    return tests


def names_of(row: dict) -> tuple[str, str]:
    """What a row of distances.csv belongs to: group of viewers or kind of model, and cluster."""
    return row["kind"].removeprefix("viewer "), row["cluster"]


def region_tests(rows: list[dict]) -> list[dict]:
    """Adults, children and G1 pairwise in each part, Bonferroni for the three pairs."""
    tests, first = [], next(iter(by(rows, "set").values()))
    for part in ("eyes", "mouth", "face", "body", "ground"):
        of = {w: column([r for r in first if w in names_of(r)], part) for w in (ADULT, "child", "G1")}
        tests += [compare(f"{part}: {a} vs {b}", of[a], of[b], 3) for a, b in itertools.combinations(of, 2)
                  if min(len(of[a]), len(of[b])) > 1]
    return tests


def cluster_votes(D: np.ndarray, link: np.ndarray, ks: range) -> dict[str, list[float]]:
    """Indices of the number of clusters, one value per k, best where largest: silhouette (on D (K, K)),
    Calinski-Harabasz, minus Davies-Bouldin (both on classical coordinates), ratio of Ward heights."""
    x, out = classical(D), {}
    for k in ks:
        member = np.eye(k)[hierarchy.fcluster(link, k, "maxclust") - 1]  # (K, k) one-hot
        own, size = member.argmax(1), member.sum(0)
        total = D @ member  # (K, k) distance to all of a cluster
        near = total[np.arange(len(D)), own] / np.maximum(size[own] - 1, 1)
        far = np.where(member > 0, np.inf, total / size).min(1)
        centres = member.T @ x / size[:, None]
        error = np.square(x - centres[own]).sum(1)  # (K,)
        between = np.square(centres - x.mean(0)).sum(1) @ size
        spread = member.T @ np.sqrt(error) / size
        apart = squareform(pdist(centres)) + np.diag(np.full(k, np.inf))
        for name, value in {
                "silhouette": np.where(size[own] > 1, (far - near) / np.maximum(far, near), 0).mean(),
                "Calinski-Harabasz": between / (k - 1) / (error.sum() / (len(D) - k)),
                "Davies-Bouldin": -((spread[:, None] + spread) / apart).max(1).mean(),
                "Ward heights": link[len(D) - k, 2] / link[len(D) - k - 1, 2]}.items():
            out.setdefault(name, []).append(float(value))
    return out


def cluster_heads(D: np.ndarray, distance: np.ndarray, k: int = N_CLUSTERS) -> dict:
    """Ward clusters of the late heads from D (K, K), mean cosine distances of their maps.

    labels (K,): 1, 2, 3 for G1, G2, G3, by the median MDS distance (distance (K,)) from near to far.
    """
    link = hierarchy.linkage(squareform(D, checks=False), "ward", optimal_ordering=True)
    raw = hierarchy.fcluster(link, k, "maxclust")
    order = sorted(set(raw), key=lambda c: np.median(distance[raw == c]))
    votes = cluster_votes(D, link, range(2, min(10, len(D) - 2) + 1))
    return dict(labels=np.array([order.index(c) + 1 for c in raw]), link=link, votes=votes,
                votes_for={name: 2 + int(np.argmax(v)) for name, v in votes.items()},
                cophenetic=float(hierarchy.cophenet(link, squareform(D, checks=False))[0]))


def image_rows(seen: list[Seen], table: list[dict], groups: dict) -> list[dict]:
    """per_image.csv: every trace and viewer of every clip: distance to the viewers (median over them, px) and
    shares of the looks at parts and masks (%)."""
    rows = []
    for s in seen:
        others = np.where(np.eye(len(s.viewers), dtype=bool), np.nan, s.between)
        found = [(r["condition"], r["kind"], d, t, np.arange(len(t))) for r, d, t in
                 zip(table, s.to_viewers, s.traces)]
        found += [(v, f"viewer {groups.get(v, '')}".strip(), d, g, s.frame) for v, d, g in
                  zip(s.viewers, others, s.gaze)]
        for condition, kind, d, gaze, frame in found:
            share = part_shares(gaze, s.points[frame], s.parts[frame]) if s.points is not None else {}
            share |= mask_shares(gaze, frame, s.masks)
            middle = float(np.median(d[np.isfinite(d)])) if np.isfinite(d).any() else ""
            rows.append(dict(image=s.clip.name, condition=condition, kind=kind, genre=s.clip.genre,
                             distance_px=middle) | share)
    columns = dict.fromkeys(k for r in rows for k in r)
    return [{k: r.get(k, "") for k in columns} for r in rows]


def distance_rows(table: list[dict], sets: dict[str, dict], groups: dict,
                  per_image: list[dict]) -> list[dict]:
    """distances.csv: every trace and viewer in every set, with its shares of looks (mean over clips, %)."""
    parts, shares = list(per_image[0])[5:], {}
    for r in per_image:
        for k in parts:
            if r[k] != "":
                shares.setdefault((r["condition"], k), []).append(r[k])
    means, rows = {k: float(np.mean(v)) for k, v in shares.items()}, []
    for name, one in sets.items():
        people = [dict(condition=v, kind=f"viewer {groups.get(v, '')}".strip()) for v in one["names"]]
        for r, d, (x, y) in zip(table + people, [*one["distance"], *one["people_distance"]],
                                [*one["points_2d"], *one["people_2d"]]):
            rows.append(dict(set=name, unit=one["unit"], distance=float(d), x=float(x), y=float(y))
                        | dict(condition="", kind="", model="", block="", head="", cluster="") | r
                        | {k: means.get((r["condition"], k), "") for k in parts})
    return rows


def time_courses(seen: list[Seen], members: dict[str, np.ndarray], groups: dict) -> list[dict]:
    """timecourse.csv: left-minus-right face share of every group of viewers and cluster of heads in every
    frame of the clips with two faces. members: {cluster: its traces}."""
    rows = []
    for s in seen:
        if s.points is None or not ((s.parts == "mouth").sum(1) == 2).any():
            continue
        n, of = len(s.points), {}
        for cluster, i in members.items():
            of[cluster] = nan_mean(left_minus_right(s.traces[i], s.points, s.parts))
        for group in sorted({groups.get(v, "viewers") for v in s.viewers}):
            mine = s.gaze[[groups.get(v, "viewers") == group for v in s.viewers]]
            value = left_minus_right(mine, s.points[s.frame], s.parts[s.frame])  # (V, S)
            good, frame = np.isfinite(value), np.broadcast_to(s.frame, value.shape)
            count = np.bincount(frame[good], minlength=n)
            total = np.bincount(frame[good], value[good], n)
            of[group] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
        rows += [dict(clip=s.clip.name, frame=t, group=g, left_minus_right=float(v[t]))
                 for g, v in of.items() for t in range(n)]
    return rows


def course_correlations(rows: list[dict]) -> dict[str, dict]:
    """{group: r with adults, frames}; frames follow each other, so no p is given."""
    of, out = {g: {(r["clip"], r["frame"]): r["left_minus_right"] for r in v}
               for g, v in by(rows, "group").items()}, {}
    for g in sorted(of.keys() - {ADULT}) if ADULT in of else ():
        pairs = np.array([(v, of[ADULT].get(k, np.nan)) for k, v in of[g].items()])
        pairs = pairs[np.isfinite(pairs).all(1)]
        if len(pairs) > 2 and (pairs.std(0) > 0).all():
            out[g] = dict(r=float(np.corrcoef(pairs.T)[0, 1]), frames=len(pairs))
    return out


def set_correlations(rows: list[dict]) -> list[dict]:
    """Pearson r over heads between the MDS distances in every two sets of distances.csv."""
    sets, out = by([r for r in rows if r["model"]], "set"), []
    for a, b in itertools.combinations(sets, 2):
        x, y = ({r["condition"]: r["distance"] for r in sets[s]} for s in (a, b))
        if len(both := [k for k in x if k in y]) > 2:
            r, p = stats.pearsonr([x[k] for k in both], [y[k] for k in both])
            out.append(dict(sets=[a, b], r=float(r), p=float(p), n=len(both)))
    return out


def headline(rows: list[dict], courses: dict) -> list[dict]:
    """The paper's numbers beside ours; its pixels only where ours are pixels."""
    mine, out = next(iter(by(rows, "set").values())), []
    unit, late = mine[0]["unit"], [r for r in mine if r["cluster"]]

    def single(name: str, paper: float | None, value: float, n: int, unit: str) -> None:
        out.append(dict(name=name, paper=paper, ours=value, ci=None, n=n, unit=unit))
    for kind, of in by(mine, "kind").items():
        d, paper = column(of, "distance"), PAPER.get(kind) if unit == "px" else None
        if kind.startswith("viewer"):
            out.append(result_row(kind, d, unit, None, np.median))
        elif kind in OFFICIAL:
            single(f"{kind}, best head", paper, min(d), len(d), unit)
        elif kind == "GBVS":
            single("GBVS, all channels", paper, d[0], 1, unit)
        else:
            out.append(result_row(f"{kind}, {BEST} best heads", best_heads(of), unit, paper, np.median))
    for part, papers in PAPER_SHARES.items():
        for who, paper in zip((ADULT, "child", "G1"), papers):
            if v := column([r for r in mine if who in names_of(r)], part):
                out.append(result_row(f"{who}: looks at {part}", v, "%", paper, np.median))
    for g, paper in PAPER_SIZES.items() if late else ():
        single(f"{g}: share of late heads", paper, 100 * sum(r["cluster"] == g for r in late) / len(late),
               len(late), "%")
    for g, c in courses.items():
        single(f"left-right face course of {g} with adults", PAPER_COURSE.get(g), c["r"], c["frames"], "r")
    if len(animals := [r for r in late if r.get("animal_face", "") != ""]) > 2:
        r = float(np.corrcoef(np.transpose([(r["face"], r["animal_face"]) for r in animals]))[0, 1])
        single("human and animal faces, over late heads", PAPER_ANIMALS, r, len(animals), "r")
    return out


def find_clusters(table: list[dict], sums: dict, distance: np.ndarray, path: Path) -> tuple[np.ndarray, dict]:
    """The late heads' places in the table and their clusters, which are entered there and in clusters.npz."""
    path.unlink(missing_ok=True)
    late = np.flatnonzero([r["cluster"] == "late" for r in table])
    found = cluster_heads(sums["apart"] / sums["n"], distance[late]) if len(late) > N_CLUSTERS + 1 else {}
    for i, k in zip(late, found.get("labels", itertools.repeat(""))):
        table[i]["cluster"] = f"G{k}" if k else ""
    if found:
        save_arrays(path, apart=sums["apart"] / sums["n"], link=found["link"], labels=found["labels"],
                    votes=list(found["votes"].values()), votes_names=list(found["votes"]))
    return late if found else late[:0], found


def missing_parts(study: Study, table: list[dict], courses: list) -> list[str]:
    kinds, out = {r["kind"] for r in table}, ["GBVS: its flicker and motion channels are not built"]
    for absent, text in (
            (ADULT not in study.groups.values(),
             f"tests against the group {ADULT}: no such viewers; all instead, models only"),
            (not any(c.points for c in study.clips), "looks at eyes, mouth and face, animals: no keypoints"),
            (not any(c.masks for c in study.clips), "looks at body and ground: no masks"),
            (not courses, "left-right face time course: no clip has key points of two faces"),
            (not any(r["cluster"] for r in table),
             "clusters and pop-out displays: too few late heads, see --cluster"),
            (not any(k.replace("dino", "sl") in kinds - {k} for k in kinds),
             "DINO against supervised: needs dinoN and slN"),
            ("GBVS" not in kinds, "GBVS: switched off")):
        out += [text] * absent
    return out


def analyse(study: Study, folder: Path, table: list[dict], see: Callable, device: torch.device, whole: bool,
            other: Path | None) -> dict:
    """From every head's gaze to the tables; returns the parts of results.json. whole: clips without --limit;
    other: another run's folder, to correlate."""
    seen, sums, examples = gather(study, folder / "heads_gaze", whole)
    sets = distance_sets(seen, pooled=study.layout != "cw2019")
    place_all(sets)
    distance = next(iter(sets.values()))["distance"]
    late, found = find_clusters(table, sums, distance, folder / "clusters.npz")
    labels = found.get("labels", np.empty(0, int))
    per_image = image_rows(seen, table, study.groups)
    rows = distance_rows(table, sets, study.groups, per_image)
    members = {f"G{k}": late[labels == k] for k in sorted(set(labels.tolist()))}
    courses = time_courses(seen, members, study.groups)
    blocks = list(dict.fromkeys((r["kind"], r["model"], r["block"]) for r in table if r["model"]))
    alike = [dict(kind=k, model=m, block=b, cosine=float(v))
             for (k, m, b), v in zip(blocks, sums["alike"] / sums["n"])]
    for name, content in (("per_image", per_image), ("distances", rows), ("timecourse", courses),
                          ("similarity", alike)):
        write_csv(content, folder / f"{name}.csv")
    best = int(np.where([bool(r["model"]) for r in table], distance, np.inf).argmin())
    save_examples(seen, examples, labels, late, best, study.groups, folder / "examples.npz")
    others = read_csv(other / "distances.csv") if other else []
    with input_errors(f"--compare {other}", "the folder of a finished run"):
        others = [r | {"set": f"{other.resolve().name}: {r['set']}"} for r in others]
    write_csv(others, folder / "compare.csv")
    course = course_correlations(courses)
    return dict(headline=headline(rows, course), tests=compare_all(rows) + region_tests(rows),
                not_run=missing_parts(study, table, courses), best_head=table[best]["condition"],
                sets={n: dict(viewers=len(one["names"]), **{k: one[k] for k in ("unit", "dim", "stress")})
                      for n, one in sets.items()}, left_right=course, data_notes=sorted(set(study.notes)),
                correlations=set_correlations(rows + others),
                clusters={k: found[k] for k in ("votes", "votes_for", "cophenetic") if found},
                popout_lift=pop_out(see, labels, device, folder / "popout.npz") if found else {})


# -------------------------------------------------------------------------------- figures

def colour_of(kind: str) -> str:
    names = {"GBVS": PALETTE["gbvs"], **COLOURS}
    return names.get(kind) or PALETTE["human" if kind.startswith("viewer") else
                                      "sl" if kind.startswith(("sl", "deit")) else "dino"]


def dots(ax, columns: dict[str, list]) -> None:
    """One column of sorted dots per name, with a bar at the median."""
    for i, (name, v) in enumerate(columns.items()):
        ax.plot(i + np.linspace(-.25, .25, len(v)), np.sort(v), ".", color=colour_of(name), markersize=4,
                alpha=.6)
        ax.hlines(np.median(v) if len(v) else np.nan, i - .4, i + .4, color=colour_of(name), linewidth=2)
    ax.set_xticks(range(len(columns)), columns, rotation=45, fontsize=7, ha="right")


def draw_distances(folder: Path, rows: list[dict]) -> None:
    """fig_distance: MDS distance of viewers, best heads, GBVS; of heads by block; all in two dimensions."""
    kinds, unit = by(rows, "kind"), rows[0]["unit"]
    people = {k: v for k, v in kinds.items() if k.startswith("viewer")}
    models = {k: v for k, v in kinds.items() if v[0]["model"]}
    fig, ((left, middle, right),) = figure_grid(1, 3, 5, 4.6, width_ratios=[1, 1.1, 1.2])
    dots(left, {k: best_heads(v) if k in models else column(v, "distance")
                for k, v in (people | kinds).items()})
    left.set(ylabel=f"MDS distance from the median viewer ({unit})", ylim=(0, None))
    left.set_title(f"viewers, {BEST} best heads of each model, GBVS; bar: median", fontsize=9)
    for kind, mine in models.items():
        per = [column(v, "distance") for _, v in sorted(by(mine, "block").items())]
        style, x = {4: ":", 8: "--"}.get(len(per), "-"), (np.arange(len(per)) + 1) / len(per)
        low, half, high = np.transpose([np.quantile(p, (.25, .5, .75)) for p in per])
        middle.plot(x, half, style, color=colour_of(kind), label=kind)
        middle.fill_between(x, low, high, color=colour_of(kind), alpha=.06, linewidth=0)
    middle.axhline(np.median(column(sum(people.values(), []), "distance")), color="black", linewidth=1,
                   label="viewers, median")
    middle.set(xlabel="block / number of blocks", ylabel=f"MDS distance ({unit})", ylim=(0, None))
    middle.set_title("all heads by block; line: median, band: quartiles", fontsize=9)
    middle.legend(frameon=False, fontsize=7, ncols=2, handlelength=4)
    for kind, mine in (models | kinds).items():
        marker = "^" if kind in people else "D" if kind == "GBVS" else "."
        right.plot(column(mine, "x"), column(mine, "y"), marker, color=colour_of(kind), alpha=.6,
                   markersize=4, label=kind, fillstyle="none" if kind in list(people)[1:] else "full")
    for g in COLOURS:
        mine = [r for r in rows if r["cluster"] == g]
        right.plot(column(mine, "x"), column(mine, "y"), "o", fillstyle="none", color=COLOURS[g],
                   markersize=8, label=f"late heads, {g}")
    right.set(xlabel=f"dimension 1 ({unit})", ylabel=f"dimension 2 ({unit})", aspect="equal")
    right.set_title("scaling in two dimensions", fontsize=9)
    right.legend(frameon=False, fontsize=6, loc="center left", bbox_to_anchor=(1, .5))
    save_figure(fig, folder / "fig_distance")


def draw_clusters(folder: Path, rows: list[dict]) -> None:
    """fig_clusters: dendrogram of the late heads, members by block, indices of the number of clusters."""
    d, late = read_arrays(folder / "clusters.npz"), [r for r in rows if r["cluster"]]
    fig, ((left, middle, right),) = figure_grid(1, 3, 4.3, 3.6, width_ratios=[1.6, 1, 1])
    shown = [f"{r['model']} b{r['block']:.0f} h{r['head']:.0f}" for r in late]
    tree = hierarchy.dendrogram(d["link"], ax=left, color_threshold=0, above_threshold_color="black",
                                labels=shown, no_labels=len(late) > 40)
    for tick, leaf in zip(left.get_xticklabels(), tree["leaves"]):
        tick.set(color=COLOURS[f"G{d['labels'][leaf]}"], fontsize=6, rotation=90)
    left.set(ylabel="Ward distance (of 1 - cosine)", title="late heads by their attention maps")
    blocks = sorted(by(late, "kind", "block").items(), key=lambda b: (len(b[0][0]), b[0]))
    bottom = np.zeros(len(blocks))
    for g in COLOURS:
        n = np.array([sum(r["cluster"] == g for r in mine) for _, mine in blocks])
        middle.bar(range(len(blocks)), n, .6, bottom, color=COLOURS[g], label=g)
        bottom += n
    middle.set_xticks(range(len(blocks)), [f"{k}\nblock {b:.0f}" for (k, b), _ in blocks], fontsize=7)
    middle.set(ylabel="heads", title="members by block", ylim=(0, 1.25 * bottom.max()))
    middle.legend(frameon=False, fontsize=7, ncols=3)
    for name, v in zip(d["votes_names"], d["votes"]):
        v = (v - v.min()) / (np.ptp(v) or 1)
        right.plot(np.arange(2, 2 + len(v)), v, "o-", markersize=3, label=name)
    right.set(xlabel="number of clusters", ylabel="index, from worst to best", title="how many clusters?",
              ylim=(-.05, 1.5))
    right.legend(frameon=False, fontsize=7, ncols=2, loc="upper center")
    save_figure(fig, folder / "fig_clusters")


def draw_gaze(folder: Path) -> None:
    """fig_gaze: frames with the gaze of viewers and heads; below, the mean attention of every cluster."""
    d = read_arrays(folder / "examples.npz")
    n_rows = 1 + len(d["maps0"])
    fig, axes = figure_grid(n_rows, int(d["n"]), 2.2, 1.8)
    for i, column in enumerate(axes.T):
        column[0].imshow(d[f"picture{i}"])
        for g, tone in zip(sorted(set(d[f"groups{i}"].tolist())), ("white", "#dddd66", "#bbbbbb", "#77dddd")):
            column[0].scatter(*d[f"viewers{i}"][d[f"groups{i}"] == g].T, s=9, c=tone, edgecolors="black",
                              linewidths=.4, label=f"viewers {g}")
        for k, g in enumerate(COLOURS if n_rows > 1 else (), 1):
            column[0].scatter(*d[f"heads{i}"][d["labels"] == k].T, s=18, c=COLOURS[g], marker="s",
                              edgecolors="white", linewidths=.4, label=f"heads of {g}")
            column[k].imshow(d[f"picture{i}"].mean(2), cmap="gray")
            attention = upsample(torch.from_numpy(d[f"maps{i}"][k - 1]), d[f"picture{i}"].shape[:2]).numpy()
            column[k].imshow(attention, cmap="inferno", alpha=.65)
            axes[k, 0].set_ylabel(g, color=COLOURS[g])
        column[0].scatter(*d[f"best{i}"], s=90, facecolors="none", edgecolors="#ffdc00", linewidths=2,
                          label="best head")
        column[0].set_title(str(d[f"title{i}"]), fontsize=8)
        for ax in column:
            ax.set(xticks=[], yticks=[], xlim=(0, d[f"picture{i}"].shape[1]),
                   ylim=(d[f"picture{i}"].shape[0], 0), frame_on=False)
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize=8,
               frameon=False)
    save_figure(fig, folder / "fig_gaze")


def draw_regions(folder: Path, rows: list[dict], courses: list[dict]) -> None:
    """fig_regions: looks at parts by group of viewers and cluster; left-right course; animals' faces."""
    parts = [p for p in ("eyes", "mouth", "face", "body", "ground") if p in rows[0]]
    names = [*sorted({r["kind"] for r in rows if r["kind"].startswith("viewer")}), *COLOURS, "GBVS"]
    n = len(parts) + 2
    fig, ((*panels, course, animals),) = figure_grid(1, n, (2.1 * n + 2) / n, 3.2,
                                                     width_ratios=[1] * len(parts) + [2, 1.4])
    for ax, part in zip(panels, parts):
        dots(ax, {k: column([r for r in rows if k in (r["kind"], r["cluster"])], part) for k in names})
        ax.set(title=part, ylim=(-3, 103), ylabel="looks (%), bar: median" if part == parts[0] else "")
    clip = courses[0]["clip"] if courses else "-"
    for g, mine in by([r for r in courses if r["clip"] == clip], "group").items():
        course.plot(column(mine, "frame"), column(mine, "left_minus_right"), lw=1.2, label=g,
                    color=COLOURS.get(g, "black"), linestyle="-" if g in (*COLOURS, ADULT) else "--")
    course.set(xlabel=f"frame of {clip}", ylabel="looks: left face - right face", title="two faces")
    course.legend(frameon=False, fontsize=6, ncols=2, handlelength=4)
    late = [r for r in rows if r["cluster"] and r.get("animal_face", "") != ""]
    animals.scatter(column(late, "face"), column(late, "animal_face"), s=14,
                    c=[COLOURS[r["cluster"]] for r in late])
    animals.set(xlabel="looks at human faces (%)", ylabel="looks at animal faces (%)", title="late heads")
    save_figure(fig, folder / "fig_regions")


def draw_heads(folder: Path, rows: list[dict]) -> None:
    """fig_heads: likeness of a block's heads against depth; every head's distance in two sets of clips."""
    fig, ((left, right),) = figure_grid(1, 2, 4.5, 3.6)
    table, others = (read_csv(folder / f"{name}.csv") for name in ("similarity", "compare"))
    for kind, mine in by(table, "kind").items():
        mean = [np.mean(column(of, "cosine")) for _, of in sorted(by(mine, "block").items())]
        left.plot(np.arange(len(mean)) + 1, mean, marker="o", markersize=3, color=colour_of(kind), label=kind,
                  linestyle={4: ":", 8: "--"}.get(len(mean), "-"))
    left.set(xlabel="layer (block + 1)", ylabel="cosine between heads of a block",
             title="attention maps of a block's heads")
    left.legend(frameon=False, fontsize=7, handlelength=4)
    sets = {s: {r["condition"]: r for r in of if r["model"]} for s, of in by(rows + others, "set").items()}
    a, b = next(iter(sets)), others[0]["set"] if others else list(sets)[-1]
    both = [k for k in sets[a] if k in sets[b]]
    right.scatter(*([sets[s][k]["distance"] for k in both] for s in (a, b)), s=6,
                  c=[colour_of(sets[a][k]["kind"]) for k in both])
    units = {r["set"]: r["unit"] for r in rows + others}
    right.set(xlabel=f"MDS distance, {a} ({units[a]})", ylabel=f"MDS distance, {b}\n({units[b]})",
              title="every head in two sets of clips")
    right.set_visible(a != b and bool(both))
    save_figure(fig, folder / "fig_heads")


def draw_popout(folder: Path) -> None:
    """fig_popout: displays with one odd item, mean attention of the clusters, GBVS."""
    d = read_arrays(folder / "popout.npz")
    columns = {"display": d["images"], **{k: d[k] for k in (*COLOURS, "GBVS")}}
    fig, axes = figure_grid(len(d["names"]), len(columns), 1.5, 1.5)
    for ax, title in zip(axes[0], columns):
        ax.set_title(title, fontsize=8)
    for i, (row, name) in enumerate(zip(axes, d["names"])):
        row[0].set_ylabel(name, fontsize=8)
        for ax, values in zip(row, columns.values()):
            ax.imshow(values[i], cmap="inferno")
            ax.set(xticks=[], yticks=[], frame_on=False)
    save_figure(fig, folder / "fig_popout")


def draw_all(folder: Path) -> None:
    """Every figure whose data the run has, from its files alone."""
    rows = read_csv(folder / "distances.csv")
    first = next(iter(by(rows, "set").values()))
    draw_distances(folder, first)
    draw_gaze(folder)
    draw_heads(folder, rows)
    if "eyes" in rows[0]:
        draw_regions(folder, first, read_csv(folder / "timecourse.csv"))
    if (folder / "clusters.npz").exists():
        draw_clusters(folder, first)
        draw_popout(folder)


# -------------------------------------------------------------------------------- main

def parse(argv: list[str] | None = None) -> argparse.Namespace:
    p = argument_parser(__doc__)
    add_common_args(p, batch_size=8)
    add = p.add_argument_group("study (--limit: the first N frames of every clip)").add_argument
    add("--models", nargs="+", metavar="MODEL",
        help="names of common.WEIGHTS, or KIND=FILE with a kind dino4 ... sl12; several "
        f"files of a kind are its seeds (default: the demo's six; with data {' '.join(OFFICIAL)})")
    add("--cluster", nargs="+", metavar="KIND:BLOCKS",
        default=[f"{k}:{','.join(map(str, b))}" for k, b in LATE.items()],
        help="heads to cluster, blocks from 0 (default: %(default)s)")
    add("--compare", type=Path, help="folder of another run, to correlate its heads' distances with these")
    add("--gbvs", action=argparse.BooleanOptionalAction, default=True,
        help="graph-based saliency as a condition")
    args = p.parse_args(argv)
    args.models = args.models or list(DEMO_MODELS if args.data == "demo" else OFFICIAL)
    if args.weights and len(args.models) > 1:
        raise InputError("--weights belongs to one model; give several as --models KIND=FILE KIND=FILE.")
    if bad := [c for c in args.cluster if not re.fullmatch(r"\w+:\d+(,\d+)*", c)]:
        raise InputError(f"--cluster {bad[0]}: expected KIND:BLOCK,BLOCK as in dino12:8,9.")
    if args.compare and not (args.compare / "distances.csv").is_file():
        raise InputError(f"--compare {args.compare}: no distances.csv; give the folder of a finished run.")
    return args


def main(argv: list[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    rank, _ = init_distributed(device)
    kinds = dict.fromkeys(m.partition("=")[0].removeprefix("demo_") for m in args.models)
    tag = [Path(args.data).resolve().name, *kinds, *[f"limit{args.limit}"] * bool(args.limit)]
    begin = partial(start_run, args, "exp05_gaze_video", "_".join(tag), free=["compare"],
                    parts=["heads_gaze/*.json", "heads_gaze/*.[0-9][0-9][0-9][0-9].npz"])
    if args.plot_only:
        return redraw(folder := begin(), lambda results: draw_all(folder))
    study, models = load_study(args.data, args.seed), load_models(args.models, args.weights, device)
    folder, clusters = begin(), [c.split(":") for c in args.cluster]  # rows and heads' maps go up in blocks
    late = {k: tuple(sorted(set(map(int, blocks.split(","))))) for k, blocks in clusters}
    see = partial(look, models=models, late=late, with_gbvs=args.gbvs, dtype=args.dtype,
                  scale=CW_SCALE if study.layout == "cw2019" else None)
    for number, clip in enumerate(tqdm(study.clips, "heads' gaze, clips", disable=rank > 0)):
        watch(clip, number, folder / "heads_gaze", see, args.batch_size, args.limit, device)
    barrier()
    if rank == 0:  # heads among viewers, clusters, regions
        found = analyse(study, folder, trace_table(models, late, args.gbvs), see, device,
                        args.limit is None, args.compare)
        files = [p for c in study.clips for p in (c.source.iterdir() if c.source.is_dir() else [c.source])]
        results = write_results(
            folder, "exp05_gaze_video", args.data, found.pop("headline"), args, time.time() - began, device,
            found.pop("tests"), found.pop("not_run"), files=files, layout=study.layout,
            gaze="CLS row, nearest up-sampling, 2-patch box mean, arg-max", distance="cosine", **found)
        draw_all(folder)
        print_paper_vs_ours(results)
        print("\n".join(f"note: {note}" for note in results["data_notes"]))


if __name__ == "__main__":
    cli(main)
