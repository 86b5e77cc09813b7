"""exp05_data: the layouts, frames and gaze are read as they were shown and recorded."""
from pathlib import Path

import numpy as np
import scipy.io

import exp05_data as D
from gaze_worlds import clip_of, write_video
from results import write_csv


# ------------------------------------------------------------------------------------------------ layouts

def test_n2010_samples_show_the_nearest_frame_and_blanks_are_left_out(tmp_path):
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "all.mp4", 4)
    gaze = np.random.default_rng(0).uniform(0, 40, (5, 388, 2))
    np.savez(tmp_path / "gaze.npz", gaze=gaze, group=np.array([0, 0, 1, 3, 4]))
    study = D.load_study(str(tmp_path))
    assert study.layout == "n2010" and set(study.groups.values()) == {"adult", "child", "child ASD",
                                                                      "adult ASD"}
    aligned, frame = D.align(study.clips[0].records(), np.arange(2327) / 29.93, study.clips[0])
    nearest = np.abs(np.linspace(0, 1, 388)[:, None] - np.linspace(0, 1, 2327)).argmin(1)
    assert (frame == nearest).all()
    blank = np.isin(frame, study.clips[0].blank)
    assert len(study.clips[0].blank) == 197 and np.isnan(aligned[:, blank]).all()
    np.testing.assert_array_equal(aligned[:, ~blank], gaze[:, ~blank])
    cells = np.empty(6, object)
    cells[:] = [*gaze, gaze[0]]
    scipy.io.savemat(tmp_path / "allclip1.mat",
                     dict(eyeclip1=cells, goodsubj=np.arange(1, 6), gr=[1, 1, 2, 4, 5, 1]))
    again = D.load_study(str(tmp_path))
    assert again.groups == study.groups
    np.testing.assert_array_equal(again.clips[0].records()["viewer004"][:, 1:], gaze[4])


def test_cw2019_is_read_as_distributed_with_the_displays_geometry(tmp_path):
    for folder in ("Clips_small_size", "GazeData/NV/0043er", "GazeData/NV/0724er"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("STEPF_3a_c", "BLUE_1a_c", "X_10_c", "X_1_c"):
        write_video(tmp_path / "Clips_small_size" / f"{name}.mov", 3, (48, 128))
    write_csv([{"index": i, "file name": n, "genre category": g} for i, (n, g) in enumerate(
        [("STEPF_3a", "a demo (drama/other)"), ("BLUE_1a", "doc/nature"), ("X_1", "cartoon"),
         ("X_10", "drama")])],
        tmp_path / "30s_segment_description.csv")
    record = dict(t=[5000., 5010, 5020, 5030], x=[0., 1280, 2560, 7], y=[240., 720, 1200, 7],
                  missing=[0, 0, 0, 1])
    for viewer, movie in (("0043er", "STEPF_3a_c 2.mov"), ("0724er", "STEPF_3a_c.mov"),
                          ("0724er", "BLUE_1a.mov"), ("0043er", "ABSENT_9z.mov"), ("0043er", "X_1_c.mov"),
                          ("0724er", "X_10_c.mov"), ("0724er", "")):
        scipy.io.savemat(tmp_path / "GazeData/NV" / viewer / f"{movie[:4]}{len(movie)}.mat",
                         dict(eyetrackRecord=record, movieFileName=movie))
    study = D.load_study(str(tmp_path))
    assert [(c.name, c.genre, c.samples)
            for c in study.clips] == [("BLUE_1a_c", "nature", 30), ("STEPF_3a_c", "drama", 30),
                                      ("X_10_c", "drama", 30), ("X_1_c", "animation", 30)]
    assert "2 gaze records" in study.notes[0]
    assert [list(c.records()) for c in study.clips[2:]] == [["0724er"], ["0043er"]]
    records = study.clips[1].records()
    assert list(records) == ["0043er", "0724er"]
    # 2560 display px are 128 video px; the picture has 48 / .05 = 960 of 1440 rows, so 240 above it
    np.testing.assert_allclose(records["0043er"],
                               [[0, 0, 0], [.01, 64, 24], [.02, 128, 48], [.03, np.nan, -11.65]])


# ------------------------------------------------------------------------------------------------ viewers

def test_gaze_follows_the_times_of_frames_also_at_a_variable_rate():
    times = np.array([0, .1, .2, .5, .6])
    t = np.arange(0, .7, .01)
    gaze, frame = D.align({"v": np.stack([t, 1000 * t, t], 1)}, times, clip_of(samples=4))
    assert gaze.shape == (1, 20, 2) and frame.tolist() == [f for f in range(5) for _ in range(4)]
    np.testing.assert_allclose(gaze[0, 8:12, 0], 1000 * (.2 + .3 * (np.arange(4) + .5) / 4), atol=5.1)


def test_gaze_is_missing_in_gaps_and_beyond_its_end():
    t = np.r_[np.arange(0, .5, .01), np.arange(.8, 1, .01)]
    gaze, frame = D.align({"v": np.stack([t, t, t], 1)}, np.arange(48) / 24, clip_of())
    at = (np.arange(240) + .5) / 120
    gone = np.isnan(gaze[0, :, 0])
    assert gone[(at > .55) & (at < .74)].all() and gone[at > 1.05].all() and not gone[at < .5].any()
