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

Paper: G1 16.7, G2 63.9, G3 19.4 % of the late heads; median share of looks at the face 65.7 % (adults), 66.2 %
(children), 92.0 % (G1). The demo: 25.0, 45.8, 29.2 %; 78.4, 49.6, 80.7 %. Departures: samples without gaze are
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

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.spatial.distance import pdist, squareform

from common import InputError, init_distributed, pick_device, upsample
from demo import popout_displays
import exp05_data as videos
from exp05_data import Watched, compare
from exp05_gaze_video import attend, dots, load_models
from gbvs import gbvs
from results import (Claim, PALETTE, argument_parser, begin, cli, estimate, evaluate, figure_grid, finish,
                     only_draw, read_arrays, read_json, redraw, save_figure)

# -------------------------------------------------------------------------------- constants

# Shapes: K late heads, T frames, S gaze samples, V viewers, P key points, R rows: everyone who looks (heads,
# GBVS, viewers). Gaze is x, y in px.
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

def load_data(run: Path) -> tuple[dict, dict[str, np.ndarray], list[Watched], dict[str, str], list[Path]]:
    """(results of a run of exp05_gaze_video.py, its arrays, clips with their viewers, {viewer: group},
    the data's files)."""
    if not (run / "results.json").is_file():
        raise InputError(f"--run {run}: no results.json; give the folder of a finished exp05_gaze_video.py.")
    results, arrays = read_json(run / "results.json"), read_arrays(run / "arrays.npz")
    study = videos.load_study(results["args"]["data"], results["args"]["seed"])
    watched = []
    for clip in study.clips:
        if f"gaze/{clip.name}" in arrays:
            times, size = arrays[f"times/{clip.name}"], tuple(arrays[f"size/{clip.name}"].tolist())
            watched.append(Watched(clip, times, size, *videos.viewers_of(clip, times, size, False, [])))
    files = [file for w in watched for file in (w.clip.points, w.clip.masks) if file]
    return results, arrays, watched, study.groups, files


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


def measure(w: Watched, traces: np.ndarray, conditions: Sequence[str], members: dict[str, np.ndarray],
            groups: dict[str, str]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Of one clip: shares of looks (R, PARTS), NaN for who did not see it; time course of left less right
    face {group of viewers or cluster: (T,)}, if it has two faces. traces (C, T, 2); members: {cluster: rows}."""
    n, shares, courses = len(w.times), np.full((len(conditions), len(PARTS)), np.nan), {}
    points, parts = videos.key_points(w.clip.points, n) if w.clip.points else (np.empty((n, 0, 2)), np.empty((n, 0)))
    masks = videos.read_masks(w.clip.masks, n, w.size) if w.clip.masks else {}
    looks = [(row, trace, np.arange(n)) for row, trace in enumerate(traces)]
    looks += [(conditions.index(viewer), gaze, w.frame) for viewer, gaze in zip(w.viewers, w.gaze)]
    for row, gaze, frame in looks:
        found = part_shares(gaze, points[frame], parts[frame]) | mask_shares(gaze, frame, masks)
        shares[row] = [found.get(part, np.nan) for part in PARTS]
    if ((parts == "mouth").sum(1) == 2).any():
        for cluster, rows in members.items():
            courses[cluster] = videos.nan_mean(left_minus_right(traces[rows], points, parts))
        for group in sorted({groups.get(viewer, "viewers") for viewer in w.viewers}):
            mine = w.gaze[[groups.get(viewer, "viewers") == group for viewer in w.viewers]]
            values = left_minus_right(mine, points[w.frame], parts[w.frame])  # (V, S)
            good, frame = np.isfinite(values), np.broadcast_to(w.frame, values.shape)
            count, total = np.bincount(frame[good], minlength=n), np.bincount(frame[good], values[good], n)
            courses[group] = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return shares, courses


def pop_out(run: dict, members: Sequence[np.ndarray], device: torch.device) -> dict:
    """Displays with one odd item: pictures, odd items, mean attention of the clusters and GBVS, 256 px.
    members: for every cluster which of the K late heads belong to it."""
    shown = popout_displays()
    images, odd = (np.stack(v) for v in zip(*shown.values()))
    x, late = torch.from_numpy(images).to(device).permute(0, 3, 1, 2), []
    scale = videos.CW_SCALE if run["layout"] == "cw2019" else None
    weights = run["args"]["weights"]
    for m in load_models(run["args"]["models"], weights and Path(weights), device):
        if m.late():
            late.append(attend(x, m, scale, run["args"]["dtype"])[:, list(m.late())].flatten(1, 2).float())
    late = torch.cat(late, 1)  # (displays, K, h, w)
    maps = [late[:, torch.from_numpy(mine)].mean(1) for mine in members] + [gbvs(x.float() / 255)]
    maps = [upsample(m, (256, 256)).cpu().numpy() for m in maps]
    return dict(displays=images, odd=odd, display_names=list(shown), popout=np.stack(maps, 1))


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
    for part in TESTED:
        for a, b in itertools.combinations(WHO, 2):
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


def course_correlation(group: str, arrays: dict[str, np.ndarray]) -> dict | None:
    """Pearson r of a time course with the adults'; frames follow each other, so no interval is given."""
    groups = arrays["course_groups"].tolist()
    if group not in groups or "adult" not in groups:
        return None
    pairs = arrays["courses"][:, [groups.index(group), groups.index("adult")]]  # (frames, 2)
    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < 3 or (pairs.std(0) == 0).any():
        return None
    return dict(ours=float(np.corrcoef(pairs.T)[0, 1]), n=len(pairs))


def animal_faces(arrays: dict[str, np.ndarray]) -> dict | None:
    """Pearson r over late heads between looks at human and at animal faces."""
    faces = arrays["mean_shares"][arrays["cluster"] != ""][:, [PARTS.index("face"), PARTS.index("animal_face")]]
    faces = faces[np.isfinite(faces).all(1)]
    return dict(ours=float(np.corrcoef(faces.T)[0, 1]), n=len(faces)) if len(faces) > 2 else None


def claims(course_groups: Sequence[str]) -> list[Claim]:
    """The table's rows; value(arrays). course_groups: groups of viewers and clusters that have a course."""
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
    clip = arrays["course_clip"][0] if len(arrays["course_clip"]) else "-"
    mine = arrays["course_clip"] == clip
    for group, values in zip(arrays["course_groups"], arrays["courses"][mine].T):
        course.plot(values, lw=1.2, label=group, color=COLOURS.get(group, "black"),
                    linestyle="-" if group in (*GROUPS, "adult") else "--")
    course.set(xlabel=f"frame of {clip}", ylabel="looks: left face - right face", title="two faces")
    course.legend(frameon=False, fontsize=6, ncols=2, handlelength=4)
    late = arrays["cluster"] != ""
    faces, animal_faces = (arrays["mean_shares"][late, PARTS.index(p)] for p in ("face", "animal_face"))
    animals.scatter(faces, animal_faces, s=14, c=[COLOURS[g] for g in arrays["cluster"][late]])
    animals.set(xlabel="looks at human faces (%)", ylabel="looks at animal faces (%)", title="late heads")
    save_figure(fig, folder / "fig_regions")


def draw_popout(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """fig_popout: displays with one odd item, mean attention of the clusters, GBVS."""
    titles = ["display", *GROUPS, "GBVS"]
    fig, axes = figure_grid(len(arrays["displays"]), len(titles), 1.5, 1.5)
    for row, name, display, maps in zip(axes, arrays["display_names"], arrays["displays"], arrays["popout"]):
        row[0].set_ylabel(name, fontsize=8)
        for ax, title, values in zip(row, titles, [display, *maps]):
            ax.imshow(values, cmap="inferno")
            ax.set(xticks=[], yticks=[], frame_on=False)
            axes[0, titles.index(title)].set_title(title, fontsize=8)
    save_figure(fig, folder / "fig_popout")


def draw(arrays: dict[str, np.ndarray], results: dict, folder: Path) -> None:
    """Every figure whose data the run has."""
    if np.isfinite(arrays["mean_shares"]).any():
        draw_regions(arrays, folder)
    if "link" in arrays:
        draw_clusters(arrays, results["clusters"]["votes"], folder)
        draw_popout(arrays, folder)


# -------------------------------------------------------------------------------- main

def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The arguments. Data, models and --limit are the run's, so they cannot be given here."""
    parser = argument_parser(__file__, __doc__)
    parser.set_defaults(data=None)
    parser.add_argument("--run", type=Path, default=Path("runs/exp05_gaze_video/demo"),
                        help="folder of a finished run of exp05_gaze_video.py (%(default)s)")
    args = parser.parse_args(argv)
    for name in ("data", "weights", "limit"):
        if getattr(args, name):
            raise InputError(f"--{name} is an argument of exp05_gaze_video.py; give --run the folder of its run.")
    args.out = args.out or args.run / "clusters"
    return args


def missing_parts(watched: Sequence[Watched], clustered: bool, courses: Sequence[dict]) -> list[str]:
    """Parts of the study that were not run, and why."""
    parts = []
    if not any(w.clip.points for w in watched):
        parts.append("looks at eyes, mouth and face, animals: no keypoints")
    if not any(w.clip.masks for w in watched):
        parts.append("looks at body and ground: no masks")
    if not any(courses):
        parts.append("left-right face time course: no clip has key points of two faces")
    if not clustered:
        parts.append("clusters and pop-out displays: they need DINO models of eight or more blocks")
    return parts


def lift(arrays: dict) -> dict[str, dict[str, float]]:
    """Share of every map on the odd item of a display less the item's share of the area, in points."""
    found = {}
    for name, odd, maps in zip(arrays["display_names"], arrays["odd"], arrays["popout"]):
        found[name] = {who: float(100 * (m[odd].sum() / max(m.sum(), 1e-12) - odd.mean()))
                       for who, m in zip((*GROUPS, "GBVS"), maps)}
    return found


def image_rows(watched: Sequence[Watched], shares: np.ndarray, arrays: dict) -> list[dict]:
    """per_image.csv: looks of every trace and viewer of every clip with key points or masks at parts, %."""
    rows = []
    for w, values in zip(watched, shares.tolist()):
        for condition, kind, cluster, of in zip(arrays["condition"], arrays["kind"], arrays["cluster"], values):
            if np.isfinite(of).any():
                rows.append(dict(image=w.clip.name, condition=condition, kind=kind, cluster=cluster)
                            | dict(zip(PARTS, of)))
    return rows


def join_courses(watched: Sequence[Watched], courses: Sequence[dict]) -> dict:
    """Time courses of all clips: courses (frames, groups), NaN where a clip lacks a group; course_clip
    (frames,), course_groups."""
    groups = list(dict.fromkeys(group for of in courses for group in of))
    both = [(w, of) for w, of in zip(watched, courses) if of]
    whole = [np.stack([of.get(g, np.full(len(w.times), np.nan)) for g in groups], 1) for w, of in both]
    return dict(courses=np.concatenate(whole or [np.empty((0, 0))]), course_groups=np.array(groups, str),
                course_clip=np.array([w.clip.name for w, _ in both for _ in w.times], str))


def main(argv: Sequence[str] | None = None) -> None:
    args, began = parse(argv), time.time()
    device = pick_device(args.device)
    init_distributed(device)
    run, arrays, watched, groups, files = load_data(args.run)
    args.data = run["args"]["data"]
    if only_draw(args):
        return redraw(args.out, draw)
    begin(args, arrays["condition"])

    # Clusters of the late heads by what they attend to.
    table = {name: arrays[name] for name in ("condition", "kind", "block")}
    late, facts = np.flatnonzero(arrays["late"]), {}
    cluster = np.full(len(arrays["condition"]), "", "U2")
    if len(late) > N_CLUSTERS + 1:
        found = cluster_heads(arrays["apart"], arrays["distance"][0][late])
        cluster[late] = [f"G{k}" for k in found["labels"]]
        table |= dict(link=found["link"])
        facts = dict(clusters={name: found[name] for name in ("votes", "votes_for", "cophenetic")})
    members = {group: np.flatnonzero(cluster == group) for group in GROUPS if (cluster == group).any()}

    # Looks of viewers, heads and GBVS at parts; at the left and the right of two faces.
    conditions = arrays["condition"].tolist()
    measured = [measure(w, arrays[f"gaze/{w.clip.name}"].swapaxes(0, 1), conditions, members, groups)
                for w in watched]
    shares, courses = np.stack([of for of, _ in measured]), [of for _, of in measured]
    table |= dict(cluster=cluster, mean_shares=videos.nan_mean(shares)) | join_courses(watched, courses)

    # Displays with one odd item.
    if members:
        table |= pop_out(run, [cluster[late] == group for group in GROUPS], device)
        facts["popout_lift"] = lift(table)
    finish(args, "exp05_clusters", table, image_rows(watched, shares, table),
           evaluate(claims(table["course_groups"].tolist()), table), draw, began, device, region_tests(table),
           missing_parts(watched, bool(members), courses), files, **facts)


if __name__ == "__main__":
    cli(main)
