"""exp05, clusters: what the late heads of self-supervised Vision Transformers attend to in videos.

Yamamoto, Akahoshi & Kitazawa (2025), Neural Networks 189, 107595, doi 10.1016/j.neunet.2025.107595: the late
heads of DINO models fall into three clusters by their attention maps, G1 on faces, G2 on whole figures, G3 on
the ground. Measured: the clusters (Ward), how often viewers and heads look at eyes, mouths, bodies and the
ground, at one of two faces over time and at animals' faces, attention to pop-out displays. The script reads
what exp05_gaze_video.py wrote, which starts it at its end.

Commands
    laptop, demo world    python exp05_clusters.py (after python exp05_gaze_video.py)
    another run; redraw   python exp05_clusters.py --run FOLDER; the same with --plot-only

Paper: G1 16.7, G2 63.9, G3 19.4 % of the late heads; median share of looks at faces 65.7 % (adults), 66.2 %
(children), 92.0 % (G1). The demo: 33.3, 45.8, 20.8 %; 78.4, 49.6, 79.5 %. Departures: outside N2010 samples
without gaze are left out of the shares (authors: looks at nothing); where a key point is absent, the others
keep their weights (authors: those after it move up by one). Where the paper is silent: the distance between
two heads is 1 - cosine of their maps, mean over frames. More in docs/exp05.md.
"""
from __future__ import annotations

import argparse
import itertools
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    print("loading libraries", flush=True)  # seconds, the first time many

import numpy as np
import torch
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

import exp05_data as videos
import exp05_looks as looking
import exp05_scaling as scaling
from common import InputError, init_distributed, pick_device
from demo import popout_displays
from exp05_claims import reported
from exp05_gaze_video import Model, attend, dots, load_models
from exp05_looks import PARTS, Scene
from gbvs import gbvs
from results import (Claim, PALETTE, argument_parser, begin, cli, estimate, evaluate, figure_grid, finish,
                     legend_beside, only_draw, read_arrays, read_json, redraw, save_figure)

# -------------------------------------------------------------------------------- constants

# Shapes: K late heads, T frames, S gaze samples, V viewers, P key points, R rows: everyone who looks (heads,
# GBVS, viewers). Gaze is x, y in px.
OF_THE_RUN = ("data", "weights", "limit", "seed", "dtype", "batch_size")  # common arguments
WHO = ("adult", "child", "G1")  # compared in every part
PAIRS = tuple(itertools.combinations(WHO, 2))
TESTED = ("eyes", "mouth", "face", "body", "ground")
GROUPS = ("G1", "G2", "G3")
COLOURS = {"G1": "#d62728", "G2": "#2ca02c", "G3": "#8c564b", "GBVS": PALETTE["gbvs"]}
# The paper's numbers: median % of looks of adults, children and G1; p times 3 of PAIRS; % of late heads; r
PAPER_SHARES = {"eyes": (43.1, 26.4, 42.4), "mouth": (12.4, 19.2, 31.9), "face": (65.7, 66.2, 92.0)}
PAPER_P = {"eyes": (.0025, 1., .0059), "mouth": (.0036, 5.2e-14, 1.4e-5), "face": (.90, 1.7e-9, 4.3e-12)}
PAPER_SIZES = {"G1": 16.7, "G2": 63.9, "G3": 19.4}
ON_SCREEN = r"(?!left-right face course of G[23]).*"  # rows that are printed: the paper's
PAPER_COURSE = {"child": .832, "adult ASD": .795, "child ASD": .776, "G1": .425}  # with adults


# -------------------------------------------------------------------------------- data

def load_data(run: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Results and arrays of a run of exp05_gaze_video.py."""
    if not (run / "results.json").is_file():
        raise InputError(f"--run {run}: no results.json; give the folder of a run of exp05_gaze_video.py.")
    return read_json(run / "results.json"), read_arrays(run / "arrays.npz")


# -------------------------------------------------------------------------------- measure

def measure(scene: Scene, conditions: Sequence[str], groups: dict[str, np.ndarray]
            ) -> tuple[np.ndarray, np.ndarray]:
    """Of one scene: shares of everyone's looks at PARTS (R, PARTS), NaN for who did not see it; left less
    right face at every sample (S, groups). groups: {cluster or group of viewers: rows}."""
    w = scene.watched
    frame = w.frame if w.viewers else np.arange(len(w.times))  # (S,), shown at each sample
    everyone = {row: trace[frame] for row, trace in enumerate(scene.traces.swapaxes(0, 1))}  # (S, 2) each
    everyone |= {conditions.index(viewer): gaze for viewer, gaze in zip(w.viewers, w.gaze)}
    shares = np.full((len(conditions), len(PARTS)), np.nan)
    for row, gaze in everyone.items():
        found = looking.part_shares(gaze, scene.points[frame], scene.parts)
        found |= looking.mask_shares(gaze, frame, scene.masks)
        shares[row] = [found.get(part, np.nan) for part in PARTS]
    courses = np.full((len(frame), len(groups)), np.nan)
    for k, rows in enumerate(groups.values()):
        looks = [everyone[row] for row in rows if row in everyone]
        if looks:
            values = looking.left_minus_right(np.stack(looks), scene.points[frame], scene.sides[frame])
            courses[:, k] = scaling.nan_mean(values)
    return shares, courses


def pop_out(models: Sequence[Model], scale: float | None, dtype: str, members: Sequence[np.ndarray],
            device: torch.device) -> dict:
    """Displays with one odd item; mean attention of the clusters (members: (K,) bool each) and GBVS."""
    shown = popout_displays()
    images = np.stack([picture for picture, _ in shown.values()])  # (displays, 256, 256, 3)
    x = torch.from_numpy(images).to(device).permute(0, 3, 1, 2)
    late = [attend(x, m, scale, dtype)[:, list(m.late())].flatten(1, 2).float() for m in models if m.late()]
    late = torch.cat(late, 1)  # (displays, K, h, w)
    maps = [*(late[:, torch.from_numpy(mine)].mean(1) for mine in members), gbvs(x.float() / 255)]
    found = {f"display/{name}": picture for name, picture in zip(shown, images)}
    for of, m in zip((*GROUPS, "GBVS"), maps):
        found |= {f"display/{name}/{of}": m[i] for i, name in enumerate(shown)}
    return found


def example_maps(arrays: dict[str, np.ndarray], members: dict[str, np.ndarray]) -> dict:
    """Example frames of the run, and mean attention of the clusters."""
    found = {}
    for i, (clip, frame) in enumerate(zip(arrays["example_clip"], arrays["example_frame"])):
        name, maps = f"frame/{clip}, frame {frame}", arrays[f"maps{i}"].astype(np.float32)  # (heads, h, w)
        found[name] = arrays[f"picture{i}"]
        found |= {f"{name}/{group}": maps[rows].mean(0) for group, rows in members.items()}
    return found


# -------------------------------------------------------------------------------- statistics

def cluster_votes(D: np.ndarray, link: np.ndarray, ks: range) -> dict[str, list[float]]:
    """Indices of the number of clusters, one value per k, best where largest: silhouette (on D (K, K)),
    Calinski-Harabasz (on classical coordinates), ratio of Ward heights."""
    x, votes = scaling.classical(D), {"silhouette": [], "Calinski-Harabasz": [], "Ward heights": []}
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
        votes["silhouette"].append(silhouette.mean())
        votes["Calinski-Harabasz"].append(between / (k - 1) / (error.sum() / (len(D) - k)))
        votes["Ward heights"].append(link[len(D) - k, 2] / link[len(D) - k - 1, 2])
    return votes


def cluster_heads(D: np.ndarray, distance: np.ndarray) -> dict:
    """Ward clusters of the late heads from D (K, K), mean cosine distances of their maps.

    labels (K,): 1, 2, 3 for G1, G2, G3, by the median MDS distance (distance (K,)) from near to far.
    """
    link = hierarchy.linkage(squareform(D, checks=False), "ward", optimal_ordering=True)
    raw = hierarchy.fcluster(link, len(GROUPS), "maxclust")
    order = sorted(set(raw), key=lambda c: np.median(distance[raw == c]))
    votes = cluster_votes(D, link, range(2, min(10, len(D) - 2) + 1))
    best = {name: 2 + int(np.argmax(values)) for name, values in votes.items()}
    return dict(labels=np.array([order.index(c) + 1 for c in raw]), link=link, votes=votes, votes_for=best)


def looks(who: str, part: str, arrays: dict[str, np.ndarray]) -> np.ndarray:
    """Shares of looks at a part (%, mean over clips) of a group of viewers, a cluster or GBVS."""
    of = np.char.replace(arrays["kind"], "viewer ", "")
    shares = arrays["mean_shares"][(of == who) | (arrays["cluster"] == who), PARTS.index(part)]
    return shares[np.isfinite(shares)]


def region_tests(arrays: dict[str, np.ndarray]) -> list[dict]:
    """Looks of every two of WHO at every part, Bonferroni for their three pairs."""
    tests = []
    for part, (a, b) in itertools.product(TESTED, PAIRS):
        x, y = looks(a, part, arrays), looks(b, part, arrays)
        if min(len(x), len(y)) > 1:
            tests.append(scaling.compare(f"{part}: {a} vs {b}", x, y, len(PAIRS)))
    return tests


def median_look(who: str, part: str, arrays: dict[str, np.ndarray], tests: Sequence[dict]) -> dict | None:
    values = looks(who, part, arrays)
    return estimate(values, np.median) if len(values) else None


def cluster_size(cluster: str, arrays: dict[str, np.ndarray], tests: Sequence[dict]) -> dict | None:
    """A cluster's share of the late heads, %."""
    late = arrays["cluster"][arrays["cluster"] != ""]
    return dict(ours=float(100 * (late == cluster).mean()), n=len(late)) if len(late) else None


def correlation(pairs: np.ndarray) -> dict | None:
    """Pearson r of pairs (n, 2), NaN ignored; without an interval, because frames follow each other."""
    pairs = pairs[np.isfinite(pairs).all(1)]
    if len(pairs) < 3 or (pairs.std(0) == 0).any():
        return None
    return dict(ours=float(np.corrcoef(pairs.T)[0, 1]), n=len(pairs))


def course_likeness(group: str, arrays: dict[str, np.ndarray], tests: Sequence[dict]) -> dict | None:
    """r between a group's and adults' left less right face, over samples."""
    groups = arrays["course_groups"].tolist()
    return correlation(arrays["courses"][:, [groups.index(group), groups.index("adult")]])


def animal_faces(arrays: dict[str, np.ndarray], tests: Sequence[dict]) -> dict | None:
    """r over late heads between looks at human and at animal faces."""
    late = arrays["mean_shares"][arrays["cluster"] != ""]  # (K, PARTS)
    return correlation(late[:, [PARTS.index("face"), PARTS.index("animal_face")]])


def claims(groups: Sequence[str]) -> list[Claim]:
    """The table's rows; value(arrays, tests). groups: clusters and groups of viewers, as in the courses."""
    rows = [Claim(f"{who}: looks at {part}", number, "%", partial(median_look, who, part))
            for part, numbers in PAPER_SHARES.items() for who, number in zip(WHO, numbers)]
    rows += [Claim(f"{part}: {a} vs {b}", p, "p, Bonferroni",
                   partial(reported, f"{part}: {a} vs {b}", "p_bonferroni"))
             for part, numbers in PAPER_P.items() for (a, b), p in zip(PAIRS, numbers)]
    rows += [Claim(f"{cluster}: share of late heads", number, "%", partial(cluster_size, cluster))
             for cluster, number in PAPER_SIZES.items()]
    for group in sorted(set(groups) - {"adult"}) if "adult" in groups else ():
        rows.append(Claim(f"left-right face course of {group} with adults", PAPER_COURSE.get(group),
                          "r over samples", partial(course_likeness, group)))
    rows.append(Claim("G1: looks at animals' faces", 85.2, "%", partial(median_look, "G1", "animal_face")))
    return rows + [Claim("human and animal faces, over late heads", .749, "r over heads", animal_faces)]


# -------------------------------------------------------------------------------- figures

def draw_clusters(arrays: dict[str, np.ndarray], votes: dict[str, list[float]], folder: Path) -> None:
    """fig_clusters: dendrogram of the late heads, members by block, indices of the number of clusters."""
    late = arrays["cluster"] != ""
    of, kind, block = arrays["cluster"][late], arrays["kind"][late], arrays["block"][late]
    fig, ((left, middle, right),) = figure_grid(1, 3, 4.3, 3.6, width_ratios=[1.6, 1, 1])
    heads = [name.replace(".0 block ", ", ").replace(" head ", ".") for name in arrays["condition"][late]]
    tree = hierarchy.dendrogram(arrays["link"], ax=left, color_threshold=0, above_threshold_color="black",
                                labels=heads, no_labels=len(of) > 40)
    for tick, leaf in zip(left.get_xticklabels(), tree["leaves"]):
        tick.set(color=COLOURS[of[leaf]], fontsize=8, rotation=90)
    left.axhline(arrays["link"][-len(GROUPS):, 2][:2].mean(), color="black", linestyle="--", linewidth=.8)
    left.set(xlabel="model, block.head; dashed: the cut", ylabel="Ward distance (of 1 - cosine)",
             title="late heads by their attention maps")
    blocks, bottom = list(dict.fromkeys(zip(kind.tolist(), block.tolist()))), 0
    for group in GROUPS:
        n = np.array([((of == group) & (kind == k) & (block == b)).sum() for k, b in blocks])
        middle.bar(range(len(blocks)), n, .6, bottom, color=COLOURS[group], label=group)
        bottom = bottom + n
    middle.set_xticks(range(len(blocks)), [f"{k}\nblock {b}" for k, b in blocks], fontsize=8)
    middle.set(ylabel="heads", title="members by block", ylim=(0, 1.25 * np.max(bottom)))
    middle.legend(frameon=False, fontsize=8, ncols=3)
    for name, values in votes.items():
        shown = (np.array(values) - min(values)) / (np.ptp(values) or 1)
        right.plot(np.arange(2, 2 + len(values)), shown, "o-", markersize=3, label=name)
    right.set(xlabel="number of clusters", ylabel="index, worst to best", title="how many?", ylim=(-.05, 1.6))
    right.legend(frameon=False, fontsize=8, loc="upper right")
    save_figure(fig, folder / "fig_clusters")


def draw_regions(arrays: dict[str, np.ndarray], folder: Path) -> None:
    """fig_regions: looks at parts by group of viewers and cluster; left-right course; animals' faces."""
    parts = [part for part in TESTED if np.isfinite(arrays["mean_shares"][:, PARTS.index(part)]).any()]
    viewers = sorted({kind for kind in arrays["kind"].tolist() if kind.startswith("viewer ")})
    names = [*(kind.removeprefix("viewer ") for kind in viewers), *GROUPS, "GBVS"]
    fig, axes = figure_grid(2, 4, 2.9, 3)
    *panels, animals, course = axes.flat[:len(parts) + 2]
    for ax in axes.flat[len(parts) + 2:]:
        ax.set_visible(False)
    for ax, part in zip(panels, parts):
        dots(ax, {name: looks(name, part, arrays) for name in names},
             [COLOURS.get(name, "black") for name in names])
        ax.set(title=part, ylim=(-3, 103), ylabel="looks (%), bar: median" if part == parts[0] else "")
    with_faces = arrays["course_clip"][np.isfinite(arrays["courses"]).any(1)]
    clip = with_faces[0] if len(with_faces) else "-"
    for group, values in zip(arrays["course_groups"], arrays["courses"][arrays["course_clip"] == clip].T):
        course.plot(values, "-" if group in (*GROUPS, "adult") else "--", lw=1.2, label=group,
                    color=COLOURS.get(group, "black"))
    course.set(xlabel=f"gaze sample of {clip}", ylabel="looks: left face - right face", title="two faces")
    legend_beside(course)
    for group in GROUPS:
        faces = arrays["mean_shares"][arrays["cluster"] == group].T  # (PARTS, heads)
        animals.scatter(faces[PARTS.index("face")], faces[PARTS.index("animal_face")], 14, COLOURS[group])
    animals.set(xlabel="looks at human faces (%)", ylabel="looks at animal faces (%)", title="late heads")
    save_figure(fig, folder / "fig_regions")


def draw_maps(arrays: dict[str, np.ndarray], start: str, titles: Sequence[str], path: Path) -> None:
    """A row for every picture whose name starts so: the picture, then the maps over it."""
    pictures = [name for name in arrays if name.startswith(start) and name.count("/") == 1]
    fig, axes = figure_grid(len(pictures), 1 + len(titles), 1.9, 1.5)
    for row, name in zip(axes, pictures):
        img_h, img_w = arrays[name].shape[:2]
        row[0].imshow(arrays[name])
        row[0].set_ylabel(name.removeprefix(start), fontsize=7)
        for ax, title in zip(row[1:], titles):  # the map over the grey picture
            ax.imshow(arrays[name].mean(2), cmap="gray")
            ax.imshow(arrays[f"{name}/{title}"], cmap="inferno", alpha=.75, interpolation="bilinear",
                      extent=(0, img_w, img_h, 0))
            axes[0, 1 + titles.index(title)].set_title(title, fontsize=8, color=COLOURS[title])
        for ax in row:
            ax.set(xticks=[], yticks=[], xlim=(0, img_w), ylim=(img_h, 0), frame_on=False)
    save_figure(fig, path)


def draw(arrays: dict[str, np.ndarray], results: dict, folder: Path) -> None:
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
                        help="folder of a run of exp05_gaze_video.py (%(default)s)")
    args = parser.parse_args(argv)
    for name in OF_THE_RUN:
        if getattr(args, name) != parser.get_default(name):
            raise InputError(f"--{name} is the run's own here; give it to exp05_gaze_video.py.")
    run, arrays = load_data(args.run)
    vars(args).update({name: run["args"][name] for name in OF_THE_RUN})
    args.out = args.out or args.run / "clusters"
    args.resume = args.resume or (args.out / "unfinished").exists()  # nothing is kept there
    return args, run, arrays


def missing_parts(table: dict, unread: Sequence[str]) -> list[str]:
    """Parts of the study that were not run, and why; unread: sentences on key points."""
    there = np.isfinite(table["mean_shares"]).any(0)  # (PARTS,)
    parts = {"looks at eyes, mouth and face: no key points": there[:3].any(),
             "looks at animals' faces: no key points of animals": there[3:6].any(),
             "looks at body and ground: no masks": there[6:].any(),
             "course of left less right face: no clip with two faces": np.isfinite(table["courses"]).any(),
             "clusters and pop-out displays: they need DINO models of more than four blocks": "link" in table}
    return [*unread, *(text for text, found in parts.items() if not found)]


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
    study = videos.load_study(args.data, args.seed, run["args"]["lost_at_zero"])
    scenes, unread = looking.load_scenes(arrays, study.clips)
    models = load_models(run["args"]["models"], args.weights, device, run["args"]["heads"])
    given = [file for clip in study.clips for file in (clip.points, clip.annotation, clip.masks) if file]
    begin(args, [*arrays["condition"], *given])

    # Clusters of the late heads by what they attend to.
    table, facts = {name: arrays[name] for name in ("condition", "kind", "block")}, {}
    cluster, late = np.full(len(arrays["condition"]), "", "U2"), np.flatnonzero(arrays["late"])
    if len(late) > len(GROUPS) + 1:
        facts["clusters"] = cluster_heads(arrays["apart"], arrays["distance"][0][late])
        cluster[late] = [f"G{k}" for k in facts["clusters"].pop("labels")]
        table["link"] = facts["clusters"].pop("link")
    clusters = {group: np.flatnonzero(cluster == group) for group in GROUPS if len(facts)}
    viewers = {group: np.flatnonzero(table["kind"] == f"viewer {group}")
               for group in sorted(set(study.groups.values()))}

    # Looks of viewers, heads and GBVS at parts, at the left and the right of two faces; pop-out displays.
    groups, clips = clusters | viewers, [scene.name for scene in scenes]
    shares, courses = zip(*(measure(scene, arrays["condition"].tolist(), groups) for scene in scenes))
    table |= dict(cluster=cluster, clips=clips, shares=np.stack(shares), mean_shares=scaling.nan_mean(shares),
                  courses=np.concatenate(courses), course_groups=np.array([*groups], str),
                  course_clip=np.repeat(clips, [len(course) for course in courses]))
    if clusters:
        members = [np.isin(late, rows) for rows in clusters.values()]
        table |= example_maps(arrays, clusters) | pop_out(models, study.scale, args.dtype, members, device)
    tests = region_tests(table)
    finish(args, "exp05_clusters", table, image_rows(table), evaluate(claims([*groups]), table, tests), draw,
           began, device, tests, missing_parts(table, unread), on_screen=ON_SCREEN, unit="clips",
           images=len(clips), model=", ".join(run["args"]["models"]), **facts)


if __name__ == "__main__":
    cli(main)
