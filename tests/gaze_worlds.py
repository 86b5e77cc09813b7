"""Small data sets and runs that the tests of exp05 share."""
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import scipy.io

import exp05_frames as X
import exp05_gaze_video as E
import exp05_scaling as S
from results import write_csv

SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TINY = "--models demo_dino4 demo_sl4 --limit 3 --device cpu --batch-size 2".split()


def coarse_scaling(monkeypatch) -> None:
    """Viewers and heads are placed nearly where they belong: the last digits take most of a run's time."""
    place, minimize = S.place, S.minimize
    monkeypatch.setattr(S, "place", lambda distances, coords: place(distances, coords, starts=1))
    monkeypatch.setattr(S, "minimize", lambda *of, options, **how: minimize(
        *of, options=options | dict(maxiter=20), **how))


def quick(monkeypatch, figures: bool = False) -> None:
    """Runs without GBVS, without figures, with coarse scaling, with clusters of the four-block model;
    exp05_clusters is not started."""
    monkeypatch.setattr(E, "CHANNELS", {})
    monkeypatch.setattr(E, "SHALLOWEST", 4)
    monkeypatch.setattr(E, "start_clusters", lambda args: None)
    coarse_scaling(monkeypatch)
    if not figures:
        monkeypatch.setattr(E, "draw", lambda arrays, results, folder: None)


def real(name: str):
    """An array of the authors'; skips where it is absent."""
    path = SHARED / "reference" / name
    if not path.is_file():
        pytest.skip(f"no {path}: set GAZE_SHARED to the folder of reference arrays")
    return np.load(path)


def clip_of(**more) -> X.Clip:
    return X.Clip("c", Path("c.mp4"), **dict(records=dict) | more)


def write_video(path: Path, n: int = 12, size: tuple = (64, 96), pts=None, pictures=None, aspect=None
                ) -> np.ndarray:
    """n frames, without pictures of growing brightness; pts: presentation times in ms; aspect: of pixels."""
    if pictures is None:
        pictures = np.random.default_rng(9).integers(0, 40, (n, *size, 3), dtype=np.uint8)
        pictures += (np.arange(n) * 15 % 210)[:, None, None, None].astype(np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = size[1], size[0], "yuv420p", 1
        if aspect is not None:
            stream.codec_context.sample_aspect_ratio = aspect
        if pts is not None:
            stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
        for i, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = int(pts[i]), Fraction(1, 1000)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return pictures


def small_world(root: Path, viewers: int = 5, seconds: float = .5) -> Path:
    """Two clips of 12 frames, gaze of some viewers."""
    (root / "clips").mkdir(parents=True)
    rng = np.random.default_rng(4)
    for name in ("one", "two"):
        write_video(root / "clips" / f"{name}.mp4", 12)
        rows = [dict(viewer=f"v{v}", t_s=t, x_px=rng.uniform(0, 95), y_px=rng.uniform(0, 63))
                for v in range(viewers) for t in np.arange(0, seconds, 1 / 60)]
        write_csv(rows, root / "gaze" / f"{name}.csv")
    return root


def write_masks(root: Path, *shape: int) -> None:
    (root / "masks").mkdir()
    np.savez(root / "masks" / "one.npz", body=np.zeros(shape, bool), ground=np.ones(shape, bool))


N2010_SCENES = ((1, 140), (156, 311), (327, 539), (554, 740), (773, 911), (927, 1094), (1124, 1319),
                (1335, 1651), (1667, 1835), (1852, 1988), (2004, 2168), (2183, 2326))  # frames from 1, incl. both
POINT = "'{name}'\nsubj={subj} obj={obj} eye={eye} mouth={mouth} nose={nose} ear=0 face={face} hand=0\n"


def n2010_annotation(points: dict[int, list[dict]]) -> str:
    """eyeclip_annotation.txt; points: of some scenes, the words of each key point that are not 0."""
    blocks = []
    for number, (first, last) in enumerate(N2010_SCENES, 1):
        none = dict.fromkeys(("subj", "obj", "eye", "mouth", "nose", "face"), 0)
        rows = [POINT.format(name="Left しょうこ right eye", **none | words) for words in points.get(number, [])]
        blocks.append(f"'%{number} 三丁目_{number} [{first} {last}]'\n\n" + "".join(rows))
    return " \n".join(blocks)


def n2010_as_distributed(root: Path) -> Path:
    """N2010 in the layout as distributed, 96x64 px, one gaze sample a frame, the shares of looks known.

    Scene 3: the right eye is 35 px from where adults look, the left one, there in every second frame, 38.56,
    the nose 80. Scene 7: they look at the mouth. Scene 4: all but autistic adults look at the left face, then
    at the right one. The children's gaze is missing in the first half of each scene but scene 4.
    """
    (root / "clips").mkdir(parents=True)
    (root / "video_stimuli").mkdir()
    write_video(root / "clips" / "eyeclip1.mp4", 2327)
    person = dict(subj=1, face=1)
    (root / "video_stimuli" / "eyeclip_annotation.txt").write_text(n2010_annotation({
        3: [person | dict(eye=1), person | dict(eye=2), person | dict(nose=1), dict(obj=1)],
        4: [person | dict(eye=1), dict(subj=2, face=1, mouth=1), dict(obj=1)], 7: [person | dict(mouth=1)],
        11: [dict(obj=1)]}), encoding="utf-8")
    xy = np.full((18, 2326, 2), np.nan)
    xy[0, 326:539], xy[1, 326:539:2], xy[2, 326:539] = (35, 0), (0, 38.56), (80, 0)  # to the annotated end
    xy[0, 553:740], xy[1, 553:740] = (10, 30), (90, 30)
    xy[0, 1123:1319] = 0, 0
    gaze = np.zeros((12, 2327, 2)) + np.random.default_rng(3).uniform(0, 1e-6, (12, 1, 2))
    gaze[4:8, 326:432], gaze[4:8, 1123:1221] = np.nan, np.nan
    gaze[:, 553:646], gaze[:, 646:740] = (10, 30), (90, 30)
    gaze[8:] = np.where(np.arange(2327)[:, None] < 740, [95, 63] - gaze[8:], gaze[8:])
    cells = np.empty(13, object)
    cells[:] = [*gaze, gaze[0]]  # the last one is not among goodsubj
    scipy.io.savemat(root / "allclip1.mat", dict(
        eyeclip1=cells, goodsubj=np.arange(1, 13), gr=[1] * 4 + [2] * 4 + [5] * 4 + [1],
        xx_all=xy[..., 0], yy_all=xy[..., 1]))
    return root


def cw2019_world(root: Path, viewers: int = 5, frames: int = 4) -> Path:
    """CW2019 as distributed: two clips of 128x96 px of each genre, of which the last viewer saw one; every
    gaze in px of the 2560x1440 display."""
    (root / "Clips_small_size").mkdir(parents=True)
    rng, rows = np.random.default_rng(8), []
    for genre in ("a demo (drama/other)", "cartoon", "doc/nature"):
        for n in "12":
            name = f"{genre[:3].strip()}_{n}a"
            rows.append({"index": len(rows), "file name": name, "genre category": genre})
            write_video(root / "Clips_small_size" / f"{name}_c.mov", frames, (96, 128))
            for v in range(viewers if n == "1" else viewers - 1):
                t = np.arange(0, 1000 * frames / 24, 4.)
                record = dict(t=5000 + t, x=rng.uniform(300, 2200) + t, y=rng.uniform(300, 1100) - t,
                              missing=(t > 150).astype(float))
                folder = root / "GazeData" / "NV" / f"{v:04d}er"
                folder.mkdir(parents=True, exist_ok=True)
                scipy.io.savemat(folder / f"{name}.mat",
                                 dict(eyetrackRecord=record, movieFileName=f"{name}_c.mov"))
    write_csv(rows, root / "30s_segment_description.csv")
    return root


def write_n2010_gaze(root: Path, gaze: np.ndarray, groups: list[int]) -> None:
    """allclip1.mat without key points; gaze (viewers, samples, 2)."""
    cells = np.empty(len(gaze), object)
    cells[:] = [*gaze]
    scipy.io.savemat(root / "allclip1.mat", dict(eyeclip1=cells, goodsubj=np.arange(len(gaze)) + 1, gr=groups))


def n2010_world(root: Path) -> Path:
    """N2010 with 14 frames of its video, gaze of six viewers, no key points."""
    (root / "clips").mkdir(parents=True)
    write_video(root / "clips" / "all.mp4", 14)
    gaze = np.random.default_rng(7).uniform(0, 64, (6, 2327, 2))
    write_n2010_gaze(root, gaze, [1, 1, 1, 2, 2, 4])
    return root
