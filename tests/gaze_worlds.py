"""Small data sets and runs that the tests of exp05 share."""
import os
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

import exp05_data as D
import exp05_gaze_video as E
import exp05_scaling as S
from results import write_csv

SHARED = Path(os.environ.get("GAZE_SHARED", Path(__file__).resolve().parents[2] / "shared"))
TINY = "--models demo_dino4 demo_sl4 --limit 3 --device cpu --batch-size 2".split()


def quick(monkeypatch, figures: bool = False) -> None:
    """Runs without GBVS, without figures, with one start of the placement, with clusters of the four-block
    model; exp05_clusters is not started."""
    monkeypatch.setattr(E, "CHANNELS", {})
    monkeypatch.setattr(E, "SHALLOWEST", 4)
    monkeypatch.setattr(E, "start_clusters", lambda args: None)
    place = S.place
    monkeypatch.setattr(S, "place", lambda distances, coords: place(distances, coords, starts=1))
    if not figures:
        monkeypatch.setattr(E, "draw", lambda arrays, results, folder: None)


def real(name: str):
    """An array of the authors'; skips where it is absent."""
    path = SHARED / "reference" / name
    if not path.is_file():
        pytest.skip(f"no {path}: set GAZE_SHARED to the folder of reference arrays")
    return np.load(path)


def clip_of(**more) -> D.Clip:
    return D.Clip("c", Path("c.mp4"), dict, **more)


def write_video(path: Path, n: int = 12, size: tuple = (64, 96), pts=None) -> np.ndarray:
    """n frames of growing brightness; pts: presentation times in ms."""
    pictures = np.random.default_rng(9).integers(0, 40, (n, *size, 3), dtype=np.uint8)
    pictures += (np.arange(n) * 15)[:, None, None, None].astype(np.uint8)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("mpeg4", rate=24)
        stream.width, stream.height, stream.pix_fmt, stream.gop_size = size[1], size[0], "yuv420p", 1
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
