"""exp05: what there is to look at in a video (key points, masks), and how often someone looks at it.

Shapes: T frames of a clip, S gaze samples, V viewers, P key points. Gaze is x, y in px.
"""
from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common import input_errors
from data import read_csv
from exp05_data import Clip, Watched, viewers_of
from results import read_arrays

SIGMA = 30.  # px, how far from a key point one still looks at it (authors' code)
FACE = ("eyes", "mouth")
PARTS = ("eyes", "mouth", "face", "animal_eyes", "animal_mouth", "animal_face", "body", "ground")


class Scene(NamedTuple):
    """A clip with its viewers and what there is to look at."""
    watched: Watched
    points: np.ndarray  # (T, P, 2), NaN where absent
    parts: np.ndarray  # (T, P), "" where absent
    masks: dict[str, np.ndarray]  # of body and ground (T, img_h, img_w)


# -------------------------------------------------------------------------------- key points, masks

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
