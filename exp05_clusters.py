"""exp05, clusters: what the late heads of self-supervised Vision Transformers attend to in videos.

Yamamoto, Akahoshi & Kitazawa (2025), Neural Networks 189, 107595, doi 10.1016/j.neunet.2025.107595: the late
heads of DINO models fall into three clusters by their attention maps, G1 on faces, G2 on whole figures, G3 on
the ground. Measured: the clusters (Ward), how often viewers and heads look at eyes, mouths, bodies and the
ground, which of two faces they look at over time, looks at animals' faces, attention to pop-out displays.
It reads what exp05_gaze_video.py wrote, which starts it at its end.

Commands
    laptop, demo world    python exp05_clusters.py (after python exp05_gaze_video.py)
    another run           python exp05_clusters.py --run FOLDER
    redraw the figures    python exp05_clusters.py --run FOLDER --plot-only

Paper: G1 16.7, G2 63.9, G3 19.4 % of the late heads; median share of looks at faces 65.7 % (adults), 66.2 %
(children), 92.0 % (G1). The demo: 25.0, 45.8, 29.2 %; 78.4, 49.6, 80.7 %. Departure: samples without gaze are
left out of the shares (authors: looks at nothing). Where the paper is silent: the distance between two heads
is 1 - cosine of their maps, mean over frames. More in docs/notes_exp05_gaze_video.md.
"""
from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

from common import InputError, init_distributed, pick_device
from demo import popout_displays
import exp05_data as videos
from exp05_data import Clip, Watched, compare
from exp05_gaze_video import Model, attend, dots, load_models
from gbvs import gbvs
from results import (Claim, PALETTE, argument_parser, begin, cli, estimate, evaluate, figure_grid, finish,
                     only_draw, read_arrays, read_json, redraw, save_figure)

# -------------------------------------------------------------------------------- constants

# Shapes: K late heads, T frames, S gaze samples, V viewers, P key points, R rows: everyone who looks (heads,
# GBVS, viewers). Gaze is x, y in px.
OF_THE_RUN = ("data", "weights", "limit", "seed", "dtype", "batch_size")  # arguments
COPIED = ("condition", "kind", "block")  # arrays of the run
N_CLUSTERS = 3
SIGMA = 30.  # px, how far from a key point one still looks at it (authors' code)
FACE = ("eyes", "mouth")
PARTS = ("eyes", "mouth", "face", "animal_eyes", "animal_mouth", "animal_face", "body", "ground")
WHO = ("adult", "child", "G1")  # compared in every part
TESTED = ("eyes", "mouth", "face", "body", "ground")
GROUPS = ("G1", "G2", "G3")
COLOURS = {"G1": "#d62728", "G2": "#2ca02c", "G3": "#8c564b", "GBVS": PALETTE["gbvs"]}
# The paper's numbers: median % of looks of adults, children and G1; % of the late heads; r
PAPER_SHARES = {"eyes": (43.1, 26.4, 42.4), "mouth": (12.4, 19.2, 31.9), "face": (65.7, 66.2, 92.0)}
PAPER_SIZES = {"G1": 16.7, "G2": 63.9, "G3": 19.4}
PAPER_COURSE = {"child": .832, "adult ASD": .795, "child ASD": .776, "G1": .425}  # with adults
PAPER_ANIMALS = .749  # over late heads


# -------------------------------------------------------------------------------- data

class Scene(NamedTuple):
    """A clip with its viewers and what there is to look at."""
    watched: Watched
    points: np.ndarray  # (T, P, 2), NaN where absent
    parts: np.ndarray  # (T, P), "" where absent
    masks: dict[str, np.ndarray]  # of body and ground (T, img_h, img_w)


def load_data(run: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Results and arrays of a run of exp05_gaze_video.py."""
    if not (run / "results.json").is_file():
        raise InputError(f"--run {run}: no results.json; give the folder of a finished exp05_gaze_video.py.")
    return read_json(run / "results.json"), read_arrays(run / "arrays.npz")


def load_scenes(arrays: dict[str, np.ndarray], clips: Sequence[Clip]) -> list[Scene]:
    """The clips of a run, their viewers, key points and masks."""
    scenes = []
    for clip in [clip for clip in clips if f"gaze/{clip.name}" in arrays]:
        times, size = arrays[f"times/{clip.name}"], tuple(arrays[f"size/{clip.name}"].tolist())
        watched = Watched(clip, times, size, *videos.viewers_of(clip, times, size, False, []))
        points, parts, masks = np.empty((len(times), 0, 2)), np.empty((len(times), 0)), {}
        if clip.points:
            points, parts = videos.key_points(clip.points, len(times))
        if clip.masks:
            masks = videos.read_masks(clip.masks, len(times), size)
        scenes.append(Scene(watched, points, parts, masks))
    return scenes


# -------------------------------------------------------------------------------- measure

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


def shares_of(scene: Scene, traces: np.ndarray, conditions: Sequence[str]) -> np.ndarray:
    """Shares of looks of everyone at PARTS, (R, PARTS) in %; NaN: no such part, did not see the clip."""
    shares, w = np.full((len(conditions), len(PARTS)), np.nan), scene.watched
    looks = [(row, trace, np.arange(len(w.times))) for row, trace in enumerate(traces)]
    looks += [(conditions.index(viewer), gaze, w.frame) for viewer, gaze in zip(w.viewers, w.gaze)]
    for row, gaze, frame in looks:
        found = part_shares(gaze, scene.points[frame], scene.parts[frame])
        found |= mask_shares(gaze, frame, scene.masks)
        shares[row] = [found.get(part, np.nan) for part in PARTS]
    return shares


def mean_by_frame(values: np.ndarray, frame: np.ndarray, n: int) -> np.ndarray:
    """Mean of the values (looks, S) that are there over the samples of a frame: frame (S,) -> (n,)."""
    good, frame = np.isfinite(values), np.broadcast_to(frame, values.shape)
    count, total = np.bincount(frame[good], minlength=n), np.bincount(frame[good], values[good], n)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def courses_of(scene: Scene, traces: np.ndarray, members: dict[str, np.ndarray], groups: dict[str, str],
               names: Sequence[str]) -> np.ndarray:
    """Left less right face in every frame, (T, names): of the clusters (members: their traces), then of the
    groups of viewers."""
    w, courses = scene.watched, []
    for name in names:
        if name in members:
            gaze, frame = traces[members[name]], np.arange(len(w.times))
        else:
            gaze, frame = w.gaze[[groups.get(viewer, "") == name for viewer in w.viewers]], w.frame
        values = left_minus_right(gaze, scene.points[frame], scene.parts[frame])  # (looks, S)
        courses.append(mean_by_frame(values, frame, len(w.times)))
    return np.stack(courses, 1)


def measure(scenes: Sequence[Scene], arrays: dict[str, np.ndarray], members: dict[str, np.ndarray],
            groups: dict[str, str]) -> dict[str, np.ndarray]:
    """shares (clips, R, PARTS), their mean over clips; courses (frames, course_groups), their clips."""
    names, conditions = [*members, *sorted(set(groups.values()) - {""})], arrays["condition"].tolist()
    traces = [arrays[f"gaze/{scene.watched.clip.name}"].swapaxes(0, 1) for scene in scenes]  # (C, T, 2)
    shares = np.stack([shares_of(scene, trace, conditions) for scene, trace in zip(scenes, traces)])
    courses = [courses_of(scene, trace, members, groups, names) if names else np.empty((trace.shape[1], 0))
               for scene, trace in zip(scenes, traces)]
    clips = [scene.watched.clip.name for scene in scenes for _ in scene.watched.times]
    return dict(shares=shares, mean_shares=videos.nan_mean(shares), courses=np.concatenate(courses),
                course_groups=np.array(names, str), course_clip=np.array(clips),
                clips=[scene.watched.clip.name for scene in scenes])


def pop_out(models: Sequence[Model], scale: float | None, dtype: str, members: Sequence[np.ndarray],
            device: torch.device) -> dict:
    """Displays with one odd item, and mean attention of the clusters and GBVS. members: for every cluster
    which of the K late heads belong to it."""
    shown = popout_displays()
    images = np.stack([picture for picture, _ in shown.values()])  # (displays, 256, 256, 3)
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    late = torch.cat([attend(x, m, scale, dtype)[:, list(m.late())].flatten(1, 2).float()
                      for m in models if m.late()], 1)  # (displays, K, h, w)
    maps = dict(zip(GROUPS, (late[:, torch.from_numpy(mine)].mean(1) for mine in members)))
    maps["GBVS"] = gbvs(x.float() / 255)
    return {f"display/{name}": picture for name, picture in zip(shown, images)} | {
        f"display/{name}/{of}": m[i] for of, m in maps.items() for i, name in enumerate(shown)}


def example_maps(arrays: dict[str, np.ndarray], members: dict[str, np.ndarray]) -> dict:
    """Example frames of the run, and mean attention of the clusters."""
    found = {}
    for i, (clip, frame) in enumerate(zip(arrays["example_clip"], arrays["example_frame"])):
        name = f"frame/{clip}, frame {frame}"
        found[name] = arrays[f"picture{i}"]
        for group, rows in members.items():
            found[f"{name}/{group}"] = arrays[f"maps{i}"][rows].astype(np.float32).mean(0)
    return found


# -------------------------------------------------------------------------------- statistics

def cluster_votes(D: np.ndarray, link: np.ndarray, ks: range) -> dict[str, list[float]]:
    """Indices of the number of clusters, one value per k, best where largest: silhouette (on D (K, K)),
    Calinski-Harabasz, minus Davies-Bouldin (both on classical coordinates), ratio of Ward heights."""
    x = videos.classical(D)
    votes = {"silhouette": [], "Calinski-Harabasz": [], "Davies-Bouldin": [], "Ward heights": []}
    for k in ks:
        member = np.eye(k)[hierarchy.fcluster(link, k, "maxclust") - 1]  # (K, k) one-hot
        own, size = member.argmax(1), member.sum(0)
        total = D @ member  # (K, k) distance to all of a cluster
        near = total[np.arange(len(D)), own] / np.maximum(size[own] - 1, 1)
        far = np.where(member > 0, np.inf, total / size).min(1)
        silhouette = np.where(size[own] > 1, (far - near) / np.maximum(far, near), 0)
        centres = member.T @ x / size[:, None]
        error = np.square(x - centres[own]).sum(1)  # (K,)
        between = np.square(centres - x.mean(0)).sum(1) @ size
        spread = member.T @ np.sqrt(error) / size
        apart = squareform(pdist(centres)) + np.diag(np.full(k, np.inf))
        votes["silhouette"].append(silhouette.mean())
        votes["Calinski-Harabasz"].append(between / (k - 1) / (error.sum() / (len(D) - k)))
        votes["Davies-Bouldin"].append(-((spread[:, None] + spread) / apart).max(1).mean())
        votes["Ward heights"].append(link[len(D) - k, 2] / link[len(D) - k - 1, 2])
    return votes


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


def looks(who: str, part: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Shares of looks at a part (%, mean over clips) of a group of viewers, a cluster or GBVS."""
    of = np.char.replace(arrays["kind"], "viewer ", "")
    shares = arrays["mean_shares"][(of == who) | (arrays["cluster"] == who), PARTS.index(part)]
    return shares[np.isfinite(shares)]


def region_tests(arrays: dict[str, np.ndarray]) -> list[dict]:
    """Adults, children and G1 pairwise in each part, Bonferroni for the three pairs."""
    tests = []
    for part, (a, b) in itertools.product(TESTED, itertools.combinations(WHO, 2)):
        x, y = looks(a, part, arrays), looks(b, part, arrays)
        if min(len(x), len(y)) > 1:
            tests.append(compare(f"{part}: {a} vs {b}", x, y, 3))
    return tests


def median_look(who: str, part: str, arrays: dict[str, np.ndarray]) -> dict | None:
    values = looks(who, part, arrays)
    return estimate(values, np.median) if len(values) else None


def cluster_size(cluster: str, arrays: dict[str, np.ndarray]) -> dict | None:
    """A cluster's share of the late heads, %."""
    late = arrays["cluster"][arrays["cluster"] != ""]
    return dict(ours=float(100 * (late == cluster).mean()), n=len(late)) if len(late) else None


def correlation(pairs: np.ndarray) -> dict | None:
    """Pearson r of pairs (n, 2), NaN ignored; without an interval, because frames follow each other."""
    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < 3 or (pairs.std(0) == 0).any():
        return None
    return dict(ours=float(np.corrcoef(pairs.T)[0, 1]), n=len(pairs))


def course_correlation(group: str, arrays: dict[str, np.ndarray]) -> dict | None:
    """r of a group's time course with the adults'."""
    groups = arrays["course_groups"].tolist()
    if "adult" not in groups:
        return None
    return correlation(arrays["courses"][:, [groups.index(group), groups.index("adult")]])


def animal_faces(arrays: dict[str, np.ndarray]) -> dict | None:
    """r over late heads between looks at human and at animal faces."""
    late = arrays["mean_shares"][arrays["cluster"] != ""]  # (K, PARTS)
    return correlation(late[:, [PARTS.index("face"), PARTS.index("animal_face")]])


def claims(course_groups: Sequence[str]) -> list[Claim]:
    """The table's rows; value(arrays). course_groups: clusters and groups of viewers."""
    rows = [Claim(f"{who}: looks at {part}", number, "%", partial(median_look, who, part))
            for part, numbers in PAPER_SHARES.items() for who, number in zip(WHO, numbers)]
    rows += [Claim(f"{cluster}: share of late heads", number, "%", partial(cluster_size, cluster))
             for cluster, number in PAPER_SIZES.items()]
    rows += [Claim(f"left-right face course of {group} with adults", PAPER_COURSE.get(group), "r",
                   partial(course_correlation, group)) for group in sorted(set(course_groups) - {"adult"})]
    return rows + [Claim("human and animal faces, over late heads", PAPER_ANIMALS, "r", animal_faces)]


# -------------------------------------------------------------------------------- figures

def draw_clusters(arrays: dict[str, np.ndarray], votes: dict[str, list[float]], folder: Path) -> None:
    """fig_clusters: dendrogram of the late heads, members by block, indices of the number of clusters."""
    late = arrays["cluster"] != ""
    of, kind, block = arrays["cluster"][late], arrays["kind"][late], arrays["block"][late]
    fig, ((left, middle, right),) = figure_grid(1, 3, 4.3, 3.6, width_ratios=[1.6, 1, 1])
    tree = hierarchy.dendrogram(arrays["link"], ax=left, color_threshold=0, above_threshold_color="black",
                                labels=arrays["condition"][late], no_labels=len(of) > 40)
    for tick, leaf in zip(left.get_xticklabels(), tree["leaves"]):
        tick.set(color=COLOURS[of[leaf]], fontsize=6, rotation=90)
    left.set(ylabel="Ward distance (of 1 - cosine)", title="late heads by their attention maps")
    blocks = list(dict.fromkeys(zip(kind.tolist(), block.tolist())))
    bottom = np.zeros(len(blocks))
    for group in GROUPS:
        n = np.array([((of == group) & (kind == k) & (block == b)).sum() for k, b in blocks])
        middle.bar(range(len(blocks)), n, .6, bottom, color=COLOURS[group], label=group)
        bottom += n
    middle.set_xticks(range(len(blocks)), [f"{k}\nblock {b}" for k, b in blocks], fontsize=7)
    middle.set(ylabel="heads", title="members by block", ylim=(0, 1.25 * bottom.max()))
    middle.legend(frameon=False, fontsize=7, ncols=3)
    for name, values in votes.items():
        values = np.array(values)
        values = (values - values.min()) / (np.ptp(values) or 1)
        right.plot(np.arange(2, 2 + len(values)), values, "o-", markersize=3, label=name)
    right.set(xlabel="number of clusters", ylabel="index, from worst to best", title="how many clusters?",
              ylim=(-.05, 1.5))
    right.legend(frameon=False, fontsize=7, ncols=2, loc="upper center")
    save_figure(fig, folder / "fig_clusters")


def draw_regions(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """fig_regions: looks at parts by group of viewers and cluster; left-right course; animals' faces."""
    parts = [part for part in TESTED if np.isfinite(arrays["mean_shares"][:, PARTS.index(part)]).any()]
    viewers = sorted({kind for kind in arrays["kind"].tolist() if kind.startswith("viewer")})
    names = [*(kind.replace("viewer ", "") for kind in viewers), *GROUPS, "GBVS"]
    n = len(parts) + 2
    fig, ((*panels, course, animals),) = figure_grid(1, n, (2.1 * n + 2) / n, 3.2,
                                                     width_ratios=[1] * len(parts) + [2, 1.4])
    for ax, part in zip(panels, parts):
        dots(ax, {name: looks(name, part, arrays) for name in names},
             [COLOURS.get(name, "black") for name in names])
        ax.set(title=part, ylim=(-3, 103), ylabel="looks (%), bar: median" if part == parts[0] else "")
    with_faces = arrays["course_clip"][np.isfinite(arrays["courses"]).any(1)]
    clip = with_faces[0] if len(with_faces) else "-"
    for group, values in zip(arrays["course_groups"], arrays["courses"][arrays["course_clip"] == clip].T):
        course.plot(values, lw=1.2, label=group, color=COLOURS.get(group, "black"),
                    linestyle="-" if group in (*GROUPS, "adult") else "--")
    course.set(xlabel=f"frame of {clip}", ylabel="looks: left face - right face", title="two faces")
    course.legend(frameon=False, fontsize=6, ncols=2, handlelength=4)
    late = arrays["cluster"] != ""
    faces, animal_faces = (arrays["mean_shares"][late, PARTS.index(p)] for p in ("face", "animal_face"))
    animals.scatter(faces, animal_faces, s=14, c=[COLOURS[g] for g in arrays["cluster"][late]])
    animals.set(xlabel="looks at human faces (%)", ylabel="looks at animal faces (%)", title="late heads")
    save_figure(fig, folder / "fig_regions")


def draw_maps(arrays: dict[str, np.ndarray], start: str, titles: Sequence[str], path: Path) -> None:
    """A row for every picture whose name starts so: the picture, then the maps over it."""
    pictures = [name for name in arrays if name.startswith(start) and name.count("/") == 1]
    img_h, img_w = arrays[pictures[0]].shape[:2]
    fig, axes = figure_grid(len(pictures), 1 + len(titles), 1.9, 1.9 * img_h / img_w)
    for row, name in zip(axes, pictures):
        img_h, img_w = arrays[name].shape[:2]
        row[0].imshow(arrays[name])
        row[0].set_ylabel(name.removeprefix(start), fontsize=7)
        for ax, title in zip(row[1:], titles):  # the map over the grey picture
            ax.imshow(arrays[name].mean(2), cmap="gray")
            ax.imshow(arrays[f"{name}/{title}"], cmap="inferno", alpha=.75, interpolation="bilinear",
                      extent=(0, img_w, img_h, 0))
        for ax in row:
            ax.set(xticks=[], yticks=[], xlim=(0, img_w), ylim=(img_h, 0), frame_on=False)
    for ax, title in zip(axes[0, 1:], titles):
        ax.set_title(title, fontsize=8, color=COLOURS[title])
    save_figure(fig, path)


def draw(arrays: dict[str, np.ndarray], results: dict, folder: Path) -> None:
    """Every figure whose data the run has."""
    if np.isfinite(arrays["mean_shares"]).any():
        draw_regions(arrays, folder)
    if "link" in arrays:
        draw_clusters(arrays, results["clusters"]["votes"], folder)
        draw_maps(arrays, "display/", (*GROUPS, "GBVS"), folder / "fig_popout")
        draw_maps(arrays, "frame/", GROUPS, folder / "fig_frames")


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> tuple[argparse.Namespace, dict, dict[str, np.ndarray]]:
    """(arguments, results and arrays of the run). Data, models and their like are the run's."""
    parser = argument_parser(__file__, __doc__)
    parser.set_defaults(data=None)
    parser.add_argument("--run", type=Path, default=Path("runs/exp05_gaze_video/demo"),
                        help="folder of a finished run of exp05_gaze_video.py (%(default)s)")
    args = parser.parse_args(argv)
    for name in OF_THE_RUN:
        if getattr(args, name) != parser.get_default(name):
            raise InputError(f"--{name} is the run's own here; give it to exp05_gaze_video.py.")
    run, arrays = load_data(args.run)
    vars(args).update({name: run["args"][name] for name in OF_THE_RUN})
    args.out = args.out or args.run / "clusters"
    args.resume = args.resume or (args.out / "unfinished").exists()  # nothing is kept there
    return args, run, arrays


def missing_parts(table: dict, clustered: bool) -> list[str]:
    """Parts of the study that were not run, and why."""
    parts, there = [], np.isfinite(table["mean_shares"]).any(0)  # (PARTS,)
    if not there[:6].any():
        parts.append("looks at eyes, mouth and face, animals: no keypoints")
    if not there[6:].any():
        parts.append("looks at body and ground: no masks")
    if not np.isfinite(table["courses"]).any():
        parts.append("left-right face time course: no clip has key points of two faces")
    if not clustered:
        parts.append("clusters and pop-out displays: they need DINO models of more than four blocks")
    return parts


def image_rows(table: dict) -> list[dict]:
    """per_image.csv: looks of every trace and viewer of every clip with key points or masks at parts, %."""
    return [dict(image=table["clips"][i], condition=table["condition"][r], kind=table["kind"][r],
                 cluster=table["cluster"][r]) | dict(zip(PARTS, table["shares"][i, r]))
            for i, r in np.argwhere(np.isfinite(table["shares"]).any(2))]


def main(argv: Sequence[str] | None = None) -> None:
    began, (args, run, arrays) = time.time(), parse(argv)
    device = pick_device(args.device)
    init_distributed(device)
    if only_draw(args):
        return redraw(args.out, draw)
    study = videos.load_study(args.data, args.seed)
    scenes = load_scenes(arrays, study.clips)
    weights = Path(args.weights) if args.weights else None
    models = load_models(run["args"]["models"], weights, device)
    begin(args, arrays["condition"])

    # Clusters of the late heads by what they attend to.
    table, facts, late = {name: arrays[name] for name in COPIED}, {}, np.flatnonzero(arrays["late"])
    table["cluster"] = np.full(len(arrays["condition"]), "", "U2")
    if len(late) > N_CLUSTERS + 1:
        found = cluster_heads(arrays["apart"], arrays["distance"][0][late])
        table["cluster"][late] = [f"G{k}" for k in found.pop("labels")]
        table["link"] = found.pop("link")
        facts["clusters"] = found
    members = {group: np.flatnonzero(table["cluster"] == group) for group in GROUPS if "clusters" in facts}

    # Looks of viewers, heads and GBVS at parts, at the left and the right of two faces; pop-out displays.
    table |= measure(scenes, arrays, members, study.groups)
    if members:
        table |= pop_out(models, videos.CW_SCALE if run["layout"] == "cw2019" else None, args.dtype,
                         [np.isin(late, rows) for rows in members.values()], device)
        table |= example_maps(arrays, members)
    finish(args, "exp05_clusters", table, image_rows(table), evaluate(claims(table["course_groups"]), table),
           draw, began, device, region_tests(table), missing_parts(table, bool(members)),
           [file for clip in study.clips for file in (clip.points, clip.masks) if file], **facts)


if __name__ == "__main__":
    cli(main)
