"""exp05_data: the layouts, frames and gaze are read as they were shown and recorded."""
from pathlib import Path

import av
import numpy as np
import scipy.io
import pytest
import torch
from PIL import Image

import exp05_data as D
from gaze_worlds import clip_of, write_video
from results import write_csv

torch.set_num_threads(1)


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


# ------------------------------------------------------------------------------------------------ frames

def test_area_resampling_equals_opencv():
    image = (np.arange(40 * 56 * 3).reshape(40, 56, 3) * 7919 % 256).astype(np.uint8)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    ours = D.resized(x, 16, .8)  # ceil(.8 40 / 16) 16 = 32 rows, ceil(.8 56 / 16) 16 = 48 columns
    assert ours.shape == (1, 3, 32, 48)
    # cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA), OpenCV 5.0.0: green of some rows, columns
    expected = [[224, 87, 200, 56, 168], [46, 151, 81, 120, 144], [96, 201, 72, 184, 106],
                [160, 23, 136, 109, 104]]
    found = (255 * ours[0, 1, ::9, ::11]).round().int()
    off = (found - torch.tensor(expected)).abs()
    assert off.max() <= 1 and (off == 0).float().mean() > .9  # halves are rounded differently
    assert abs((255 * ours).sum() - 587387) < 500
    assert D.resized(torch.zeros(1, 3, 480, 720, dtype=torch.uint8), 16, None).shape[2:] == (480, 720)
    for (img_h, img_w), size in {(468, 851): (384, 688),
                                 (360, 853): (288, 688)}.items():  # the authors' CW2019
        assert D.resized(torch.zeros(1, 3, img_h, img_w, dtype=torch.uint8), 16, .8).shape[2:] == size


def frames_of(path: Path, fps: float | None = None, notes: list | None = None) -> tuple[D.Watched, D.Frames]:
    clip = D.Clip(path.name, path, dict, fps=fps)
    w = D.watch(clip, None, [] if notes is None else notes)
    return w, D.Frames(clip, len(w.times))


def test_videos_and_folders_of_frames_come_in_order_and_again(tmp_path):
    pictures, notes = write_video(tmp_path / "a.mp4"), []
    w, data = frames_of(tmp_path / "a.mp4", notes=notes)
    assert w.size == (64, 96) and len(data) == 12 and notes == []
    assert w.times == pytest.approx(np.arange(12) / 24, abs=1e-3)
    means = [data[i]["image"].double().mean() for i in (0, 3, 4, 11, 2)]  # the last one starts again
    np.testing.assert_allclose(means, pictures[[0, 3, 4, 11, 2]].mean((1, 2, 3)), atol=3)
    (tmp_path / "b").mkdir()
    for i, p in enumerate(pictures):
        Image.fromarray(p).save(tmp_path / "b" / f"{i + 1}.png")  # 10 comes after 9
    w, data = frames_of(tmp_path / "b", 12.)
    assert w.times == pytest.approx(np.arange(12) / 12)
    assert all((data[i]["image"].numpy() == p).all() for i, p in enumerate(pictures))


def test_a_variable_frame_rate_is_kept(tmp_path):
    pts = [0, 40, 80, 300, 340]
    write_video(tmp_path / "v.mp4", 5, pts=pts)
    assert frames_of(tmp_path / "v.mp4")[0].times == pytest.approx(np.array(pts) / 1000, abs=2e-3)


def test_frames_before_the_damage_are_used_and_it_says_so(tmp_path):
    write_video(tmp_path / "a.mp4", 12)
    whole = bytearray((tmp_path / "a.mp4").read_bytes())
    with av.open(str(tmp_path / "a.mp4")) as file:
        packets = [(p.pos, p.size) for p in file.demux(video=0) if p.size]
    pos, size = packets[7]
    whole[pos:pos + size] = bytes(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8))
    (tmp_path / "bad.mp4").write_bytes(whole)
    notes = []
    assert len(frames_of(tmp_path / "bad.mp4", notes=notes)[1]) == 7
    assert "bad.mp4: damaged after 7 frames" in notes[0] and "before the damage are used" in notes[0]
    (tmp_path / "none.mp4").write_bytes(b"no video at all")
    assert not len(frames_of(tmp_path / "none.mp4", notes=notes)[1]) and "after 0 frames" in notes[1]
    (tmp_path / "f").mkdir()
    for i in range(3):
        Image.new("RGB", (64, 64)).save(tmp_path / "f" / f"{i}.png")
    (tmp_path / "f" / "1.png").write_bytes(b"broken")
    assert len(frames_of(tmp_path / "f", 24., notes)[1]) == 1 and "frames before the damage" in notes[2]


def test_a_clip_without_a_frame_or_a_known_codec_is_noted(tmp_path):
    write_video(tmp_path / "a.mp4", 3)
    raw, notes = (tmp_path / "a.mp4").read_bytes(), []
    for name, content in (("codec.mp4", raw.replace(b"mp4v", b"zzzz").replace(b"esds", b"zzzz")),
                          ("count.mp4", raw.replace(b"stsz" + bytes(8) + b"\0\0\0\3", b"stsz" + bytes(12)))):
        (tmp_path / name).write_bytes(content)
        assert content != raw and not len(frames_of(tmp_path / name, notes=notes)[1])
    (tmp_path / "folder").mkdir()
    assert not len(frames_of(tmp_path / "folder", 24., notes)[1])
    assert [n.partition(":")[0] for n in notes] == ["codec.mp4", "count.mp4", "folder"]


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
