"""exp05_data: the layouts, frames and gaze are read as they were shown and recorded."""
import re
from fractions import Fraction

import numpy as np
import pytest
import scipy.io

import exp05_data as D
import exp05_gaze_video as E
from common import InputError
from data import read_csv
from gaze_worlds import clip_of, quick, small_world, write_n2010_gaze, write_video
from results import read_json, write_csv


# ------------------------------------------------------------------------------------------------ layouts

def test_n2010_samples_show_the_nearest_frame_and_blanks_are_left_out(tmp_path):
    (tmp_path / "clips").mkdir()
    write_video(tmp_path / "clips" / "all.mp4", 4)
    (tmp_path / "clips.csv").write_text("clip,genre\nall,film\nx,\n")
    gaze = np.random.default_rng(0).uniform(0, 40, (5, 388, 2))
    cells = np.empty(6, object)
    cells[:] = [gaze[0] + 1, gaze[1], gaze[0], *gaze[2:]]  # the first, of group 5, is not among the good ones
    scipy.io.savemat(tmp_path / "allclip1.mat",
                     dict(eyeclip1=cells, goodsubj=[3, 2, 4, 5, 6], gr=[5, 1, 3, 2, 4, 5]))
    study = D.load_study(str(tmp_path))
    assert study.layout == "n2010" and [*study.groups.items()] == [
        ("viewer000", "2"), ("viewer001", "adult"), ("viewer002", "child"), ("viewer003", "child ASD"),
        ("viewer004", "adult ASD")]  # nobody tells what the third group is
    assert study.clips[0].genre == "" and study.clips[0].points == tmp_path / "allclip1.mat"
    assert study.clips[0].annotation == tmp_path / "video_stimuli" / "eyeclip_annotation.txt"
    assert study.scale is None and study.notes == ["clips.csv, x: no clip has this name"]
    starts = [140, 311, 538, 740, 911, 1094, 1319, 1651, 1835, 1988, 2167, 2326]  # of the blanks, and lengths
    lengths = [15, 15, 15, 32, 15, 29, 15, 15, 15, 15, 15, 1]
    assert study.clips[0].blank == tuple(a + i for a, n in zip(starts, lengths) for i in range(n))
    aligned, frame = D.align(study.clips[0].records(), np.arange(2327) / 29.93, study.clips[0])
    nearest = np.abs(np.linspace(0, 1, 388)[:, None] - np.linspace(0, 1, 2327)).argmin(1)
    assert (frame == nearest).all()
    blank = np.isin(frame, study.clips[0].blank)
    assert len(study.clips[0].blank) == 197 and np.isnan(aligned[:, blank]).all()
    np.testing.assert_array_equal(aligned[:, ~blank], gaze[:, ~blank])
    aligned, frame = D.align(study.clips[0].records(), np.arange(12) / 29.93, study.clips[0])
    assert frame.tolist() == [0, 6]  # there is a sample every 6.01 frames; frame 12 was not decoded
    np.testing.assert_array_equal(aligned, gaze[:, :2])


@pytest.mark.parametrize("shape, videos, message", [
    ((4, 9, 3), 1, "gaze of shape (4, 9, 3), 1 videos"), ((4, 9), 1, "gaze of shape (4, 9), 1"),
    ((4, 9, 2, 2), 1, "gaze of shape (4, 9, 2, 2)"), ((4, 9, 2), 2, "(4, 9, 2), 2 videos")])
def test_n2010_has_one_video_and_two_coordinates(tmp_path, shape, videos, message):
    (tmp_path / "clips").mkdir()
    for i in range(videos):
        (tmp_path / "clips" / f"{i}.mp4").touch()
    write_n2010_gaze(tmp_path, np.zeros(shape), [1] * 4)
    with pytest.raises(InputError, match=re.escape(message)):
        D.load_study(str(tmp_path))


def test_every_clip_has_its_own_gaze_genre_rate_points_and_masks(tmp_path, monkeypatch):
    root, ends = small_world(tmp_path / "videos"), "MP4 m4v mov avi mkv webm mpg mpeg wmv mts".split()
    for end in ends:
        (root / "clips" / f"z_{end}.{end}").touch()
    (root / "clips" / "s.1").mkdir()
    for name in ("clips/s.1/1.png", "clips/s.1/2.png", "keypoints/one.csv", "masks/s.1.npz", "masks/two.npz"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    (root / "clips.csv").write_text("clip,genre,fps\ntwo,drama,\ns.1,nature,.5\n")
    (root / "viewers.csv").write_text("viewer,group\nv0,child\nv1,1\n")
    (root / "gaze" / "two.csv").write_text("viewer,t_s,x_px,y_px\nw,.5,1,2\n")
    with pytest.raises(InputError, match="no folder clips, no GazeData/NV; expected one of the layouts"):
        D.load_study(str(tmp_path))
    monkeypatch.setattr(D, "demo_folder", lambda part, seed: {("videos", 7): tmp_path}[part, seed])
    study = D.load_study("demo", 7)
    assert (study.layout, study.groups, study.notes, study.scale) == ("any", dict(v0="child", v1="1"), [], None)
    found = [(c.name, c.source.name, c.genre, c.fps, c.points, c.masks, c.lost_at_zero) for c in study.clips]
    assert found[:3] == [("one", "one.mp4", "", None, root / "keypoints" / "one.csv", None, False),
                         ("s.1", "s.1", "nature", .5, None, root / "masks" / "s.1.npz", False),
                         ("two", "two.mp4", "drama", None, None, root / "masks" / "two.npz", False)]
    assert sorted(name for name, *_ in found[3:]) == sorted(f"z_{end}" for end in ends)
    one, folder, two = (clip.records() for clip in study.clips[:3])
    assert len(one) == 5 and folder == {} and two["w"].tolist() == [[.5, 1, 2]]
    assert [clip.lost_at_zero for clip in D.load_study(str(root), lost_at_zero=True).clips] == [True] * 13


@pytest.mark.parametrize("fps, message", [
    ("0", "0.0 frames/s in clips.csv; expected a number above 0"), ("-24", "-24.0 frames/s"),
    ("inf", "inf frames/s"), ("24 fps", "'24 fps' frames/s"), ("", "frames without a rate; add a column fps")])
def test_frames_of_a_folder_need_a_rate_above_zero(tmp_path, fps, message):
    (tmp_path / "clips" / "one").mkdir(parents=True)
    (tmp_path / "clips.csv").write_text(f"clip,fps\none,{fps}\n")
    for name in ("1.png", "camera.txt"):
        (tmp_path / "clips" / "one" / name).touch()
    if not fps:
        assert D.load_study(str(tmp_path)).clips[0].fps is None  # one picture needs no rate
    (tmp_path / "clips" / "one" / "2.png").touch()
    with pytest.raises(InputError, match=re.escape(message)):
        D.load_study(str(tmp_path))


def test_cw2019_is_read_as_distributed_with_the_displays_geometry(tmp_path):
    for folder in ("Clips_small_size", "GazeData/NV/0043er", "GazeData/NV/0724er"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("STEPF_3a_c", "BLUE_1a_c", "BLUE_1a_a_c", "2_10_c", "2_1_c", "Y_10_c", "Z_1_part_c"):
        write_video(tmp_path / "Clips_small_size" / f"{name}.mov", 3, (48, 128))
    write_csv([{"index": i, "file name": n, "genre category": g} for i, (n, g) in enumerate(
        [("", "drama"), ("STEPF", "cartoon"), ("STEPF_3a", "a demo (drama/other)"), ("BLUE_1a", "doc/nature"),
         ("2_1", "cartoon"), ("Y_10", "drama"), ("Z_1", "doc")])],
        tmp_path / "30s_segment_description.csv")
    record = dict(t=[5000., 5010, 5020, 5030], x=[0., 1280, 2560, 7], y=[240., 720, 1200, 7],
                  missing=[0, 0, 0, 1])
    for i, (viewer, movie) in enumerate([
            ("0043er", "STEPF_3a_c 2.mov"), ("0724er", "C:\\seen\\STEPF_3a_c.mov"), ("0724er", "BLUE_1a.mov"),
            ("0043er", "EPF_3a.mov"), ("0043er", "2_1_c.mov"), ("0724er", "2_10_c.mov"), ("0724er", ""),
            ("0724er", "Y_1_c.mov"), ("0724er", "Z_1_c.mov")]):
        seen = record | (dict(x=[100.] * 4, t=[7., 8, 9, 10], missing=[0, 0, 0, 2]) if "\\" in movie else {})
        scipy.io.savemat(tmp_path / "GazeData/NV" / viewer / f"{i}.mat",
                         dict(eyetrackRecord=seen, movieFileName=movie))
    for name in ("GazeData/NV/0043er/._0.mat", "Clips_small_size/BLUE_1a_c.txt"):
        (tmp_path / name).write_bytes(b"of something else")
    study = D.load_study(str(tmp_path))
    assert study.layout == "cw2019" and study.scale == .8 and study.groups == {}
    assert [(c.name, c.genre, c.samples) for c in study.clips if not c.stored] == [
        ("2_10_c", "", 30), ("2_1_c", "animation", 30), ("BLUE_1a_c", "nature", 30), ("STEPF_3a_c", "drama", 30),
        ("Z_1_part_c", "nature", 30)]
    assert "3 gaze records" in study.notes[0]  # Y_1 is not the beginning of Y_10, as Z_1 is of Z_1_part
    for path in ("0043er/3.mat", "0724er/6.mat", "0724er/7.mat"):
        (tmp_path / "GazeData/NV" / path).unlink()
    assert D.load_study(str(tmp_path)).notes == []
    assert [*map(list, (c.records() for c in study.clips))] == [["0724er"], ["0043er"], ["0724er"],
                                                                ["0043er", "0724er"], ["0724er"]]
    records = study.clips[3].records()
    assert list(records) == ["0043er", "0724er"]
    # 2560 display px are 128 video px; the picture has 48 / .05 = 960 of 1440 rows, so 240 above it
    np.testing.assert_allclose(records["0043er"],
                               [[0, 0, 0], [.01, 64, 24], [.02, 128, 48], [.03, np.nan, -11.65]])
    np.testing.assert_allclose(records["0724er"], [
        [0, 5, 0], [.001, 5, 24], [.002, 5, 48], [.003, np.nan, -11.65]])
    write_video(tmp_path / "high.mov", 1, (96, 96), aspect=Fraction(4, 3))  # shown 128 px wide
    path = tmp_path / "GazeData/NV/0043er/0.mat"
    high = D.gaze_mats([path], tmp_path / "high.mov")["0043er"]  # nothing is above it
    np.testing.assert_allclose(high[:3, 1:], [[0, 12], [64, 36], [128, 60]])


# ------------------------------------------------------------------------------------------------ viewers

def test_gaze_follows_the_times_of_frames_also_at_a_variable_rate():
    times = np.array([0, .1, .2, .5, .6])
    t = np.arange(0, .7, .01)
    gaze, frame = D.align({"v": np.stack([t, 1000 * t, t], 1)}, times, clip_of(samples=4))
    assert gaze.shape == (1, 20, 2) and frame.tolist() == [f for f in range(5) for _ in range(4)]
    np.testing.assert_allclose(gaze[0, 8:12, 0], 1000 * (.2 + .3 * (np.arange(4) + .5) / 4), atol=5.1)
    last = .6 + .1 * (np.arange(4) + .5) / 4  # the last frame is shown as long as most are
    np.testing.assert_allclose(gaze[0, 16:, 0], 1000 * last, atol=5.1)
    times = np.array([0, .1, .2, .3, .6])  # also after one that was shown for longer
    gaze, _ = D.align({"v": np.stack([t, 1000 * t, t], 1)}, times, clip_of(samples=4))
    np.testing.assert_allclose(gaze[0, 16:, 0], 1000 * last, atol=5.1)
    record = np.column_stack([t * .1, np.arange(70), t])  # a record a ms; one frame is shown for 1/24 s
    one = D.align({"v": record}, np.array([.01]), clip_of(samples=3))[0][0, :, 0]
    assert one.tolist() == [17, 31, 45]  # 10 + 41.67 (1, 3, 5) / 6
    two = D.align({"v": record}, np.array([.01, .02]), clip_of(samples=1))[0][0, :, 0]
    assert two.tolist() == [15, 25]


def test_records_are_put_in_the_order_of_time_viewer_by_viewer(tmp_path):
    rows = [dict(viewer=v, t_s=t, x_px=9 - t, y_px="" if t == 2 else 5) for t in (3, 1.375, 2) for v in "ba"]
    write_csv(rows, tmp_path / "one.csv")
    records = D.gaze_csv(tmp_path / "one.csv")
    assert [*records] == ["b", "a"]
    for record in records.values():
        np.testing.assert_array_equal(record, [[1.375, 7.625, 5], [2, 7, np.nan], [3, 6, 5]])


def test_a_sample_takes_the_nearest_record_within_a_twentieth_of_a_second():
    record = np.array([[.0, 1, 10], [.03, 2, 20], [.077, 3, 30], [.2, 4, 40], [.326, 5, 50], [.39, 6, 60]])
    times = np.arange(4) * .1  # two samples a frame: at .025, .075, .125, .175, .225 ... s
    gaze, frame = D.align({"v": record}, times, clip_of(samples=2))
    at = np.array([.025, .075, .125, .175, .225, .275, .325, .375])
    nearest = np.abs(at[:, None] - record[:, 0]).argmin(1)
    near = np.abs(at - record[nearest, 0]) <= .05
    assert near.tolist() == [True, True, True, True, True, False, True, True]  # .125 - .077, .326 - .275
    np.testing.assert_array_equal(gaze[0], np.where(near[:, None], record[nearest, 1:], np.nan))
    assert frame.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


# ------------------------------------------------------------------------------------------------ units and clocks

SIZE, TIMES = (240, 320), np.arange(48) / 24


def gaze_of(change=lambda xy: xy, clock=lambda t: t, viewers: int = 4) -> dict[str, np.ndarray]:
    """Viewers who look anywhere in a clip of 2 s, 60 samples a second."""
    t, rng = np.arange(0, 2, 1 / 60), np.random.default_rng(5)
    return {f"v{v}": np.column_stack([clock(t), change(rng.uniform((5, 5), (315, 235), (len(t), 2)))])
            for v in range(viewers)}


def viewers_of(records: dict, whole: bool = True, **more) -> tuple[list, np.ndarray, list[str]]:
    notes: list[str] = []
    viewers, gaze, *_ = D.viewers_of(clip_of(records=lambda: records, **more), TIMES, SIZE, whole, notes)
    return viewers, gaze, notes


def test_the_share_of_frames_with_gaze_is_told():
    viewers, gaze, notes = viewers_of(gaze_of())
    assert viewers == ["v0", "v1", "v2", "v3"] and np.isfinite(gaze).all()
    assert notes == ["c: gaze in 100% of the frames (mean over 4 viewers)"]
    assert viewers_of(gaze_of(), blank=tuple(range(30)))[2] == notes  # of the frames with a picture
    records = gaze_of()
    records["v0"][:60, 2] = np.nan  # half of one of four viewers: x without y is no gaze
    assert viewers_of(records)[2] == ["c: gaze in 88% of the frames (mean over 4 viewers)"]
    records["v1"][:, 2], records["v2"][20:, 1] = np.nan, np.nan
    viewers, left, notes = viewers_of(records)
    assert viewers == ["v0", "v2", "v3"] and np.array_equal(left[2], gaze[3])
    assert np.isnan(left[0, :100]).all() and np.isnan(left[1, 50:]).all()
    assert notes == ["c, viewer v1: no gaze, left out here", "c, viewer v2: gaze in 16% of the frames",
                     "c: gaze in 42% of the frames (mean over 4 viewers)"]  # of 100, 50, 16, and 0


def test_a_clip_and_its_longest_record_are_told_to_differ_by_more_than_half_a_second():
    for factor, told in ((1.2, 0), (1.27, 1), (.78, 0), (.72, 1)):  # of 1.98 s; the last frame is at 1.96 s
        assert len(viewers_of(gaze_of(clock=lambda t: factor * t))[2]) == 1 + told
    records = gaze_of()
    assert len(viewers_of(records | {"v0": records["v0"][:60]})[2]) == 1  # the others watched to the end
    notes = viewers_of({viewer: record[:60] for viewer, record in records.items()})[2]
    assert notes[0].startswith("c: 2.0 s of video, 1.0 s of gaze; the shorter is used")
    records["v0"] = np.vstack([records["v0"], [60, 5, 5]])  # one that goes on is on no other clock
    assert viewers_of(records)[2][0].startswith("c: 2.0 s of video, 60.0 s of gaze; the shorter is used")


def test_a_limit_ends_a_clip_and_no_length_is_compared(monkeypatch):
    sizes = [SIZE] * 48
    monkeypatch.setattr(D, "frames", lambda clip: ((t, size, None) for t, size in zip(TIMES, sizes)))
    notes, clip = [], clip_of(records=lambda: gaze_of(viewers=3))  # of 2 s
    w = D.watch(clip, 24, notes)
    assert np.array_equal(w.times, TIMES[:24]) and w.size == SIZE and w.gaze.shape == (3, 120, 2)
    assert notes == ["c: gaze in 100% of the frames (mean over 3 viewers)"]
    del sizes[24:]
    D.watch(clip, None, notes)
    assert notes[1].startswith("c: 1.0 s of video, 2.0 s of gaze")
    sizes[9] = SIZE[::-1]
    with pytest.raises(InputError, match=r"c.mp4: frames of different sizes, \[\(240, 320\), \(320, 240\)\]; make"):
        D.watch(clip, None, notes)


@pytest.mark.parametrize("who, met", [
    (["pqr", "s"], 3), (["pq", "q", "r"], 2), (["pq", "", "rs"], 4), ([], 0)])
def test_viewers_are_compared_who_saw_what_another_saw(monkeypatch, who, met):
    seen = [D.Watched(clip_of(), TIMES[:0], SIZE, [], None, None),  # of which no frame could be decoded
            *[D.Watched(clip_of(), TIMES, SIZE, [*viewers], None, None) for viewers in who]]
    study, checked = D.Study("any", [*range(len(seen))]), []
    monkeypatch.setattr(D, "watch", lambda clip, limit, notes: (notes.append("why"), seen[clip])[limit == 9])
    monkeypatch.setattr(D, "check_places", checked.extend)
    if met == 4:
        assert D.watch_all(study, 9) == seen[1:] == checked and study.notes == ["why"] * 4
        return
    found = f"{met} viewers saw what another saw; at least 4 are needed" if who else "no clip could be decoded: "
    with pytest.raises(InputError, match=f"^{found}.*why$"):
        D.watch_all(study, 9)


def test_times_that_are_shares_of_the_video_are_no_other_clock():
    records = gaze_of(clock=lambda t: t / 120)
    records["v0"][5:, 1:] = np.nan
    found = viewers_of(records, relative=48)[2]
    assert found == ["c, viewer v0: gaze in 4% of the frames",
                     "c: gaze in 76% of the frames (mean over 4 viewers)"]


def test_gaze_beyond_any_edge_lies_outside():
    """Of frames 320 px wide and 240 px high the last pixels end below 320 and 240."""
    records = gaze_of()
    for viewer, xy, others in (("v0", (320, 5), (-.1, 5)), ("v1", (5, 240), (5, -.1)),
                               ("v2", (319.9, 0), (0, 239.9))):
        records[viewer][:10, 1:], records[viewer][10:20, 1:] = xy, others
    records["v3"][:, 1:] = np.nan
    _, gaze, notes = viewers_of(records)
    assert np.nanmax(gaze, (0, 1)).tolist() == [319.9, 239.9] and np.nanmin(gaze, (0, 1)).tolist() == [0, 0]
    assert notes[0] == "c: 10.83% of the gaze lies outside the frame, so is missing"  # 2 x 39 of 3 x 240


def test_a_pause_is_no_other_clock():
    w = D.Watched(clip_of(), TIMES, SIZE, [], np.empty((0, 0, 2)), np.empty(0, int))
    paused = np.array([0, .02, .04, 5])
    assert [D.is_other_clock(t, w, False) for t in (paused, paused * 100)] == [False, True]
    assert [D.is_other_clock(paused * (n / 5), w, True) for n in (6.8, 6.9)] == [False, True]  # 3 x 1.96 + 1
    two, three = np.array([0, 500]), np.array([0, 2, 500])
    assert not D.is_other_clock(two, w, True) and D.is_other_clock(three, w, True)
    assert not D.is_other_clock(np.array([100, 100.02, 101]), w, True)  # it begins late


def test_a_fifth_of_the_frames_with_gaze_is_enough_and_three_times_the_clip_not_too_long():
    few, enough = gaze_of(), gaze_of()
    for records, n in ((few, 23), (enough, 26)):  # of 120 records
        for record in records.values():
            record[n:, 1:] = np.nan
    assert viewers_of(enough)[2] == ["c: gaze in 21% of the frames (mean over 4 viewers)"]
    with pytest.raises(InputError, match="gaze in 19% of the frames"):
        viewers_of(few)
    enough["v0"][:, 1:] = np.nan
    with pytest.raises(InputError, match="gaze in 16% of the frames"):
        viewers_of(enough)
    viewers_of(gaze_of(clock=lambda t: 3.4 * t))  # 6.7 s; the clip lasts 1.96 s, and 1 s more
    longest = gaze_of(clock=lambda t: 3.6 * t)["v0"]
    mixed = gaze_of(clock=lambda t: 1000 * t) | {"v0": gaze_of()["v0"]}  # all of them tell the unit
    with pytest.raises(InputError, match="t_s looks like milliseconds"):
        viewers_of(mixed)
    with pytest.raises(InputError, match="to 6.94167 s; expected t_s in s from the first frame"):
        viewers_of(gaze_of(clock=lambda t: 3.5 * t) | {"v0": longest})


@pytest.mark.parametrize("change, clock, message", [
    (None, lambda t: 1000 * t, "t_s looks like milliseconds: multiply it by 0.001."),
    (None, lambda t: 1e6 * t, "t_s looks like microseconds: multiply it by 1e-06."),
    (None, lambda t: 1e9 * t, "t_s looks like nanoseconds: multiply it by 1e-09."),
    (None, lambda t: 24 * t, "t_s looks like frame numbers: multiply it by 0.04167."),
    (None, lambda t: 1.7e9 + t, "t_s begins at 1700000000, not with the clip: subtract"),
    (None, lambda t: 1.7e12 + 1000 * t, "milliseconds: multiply it by 0.001. t_s begins at 1.7e+12, not with"),
    (None, lambda t: 8 * t, ", to 15.8667 s; expected t_s"),
    (lambda xy: xy * 8, None, "as px of a larger display"),
    (lambda xy: xy + 400, None, "as px of a larger display")],
    ids=["ms", "us", "ns", "frames", "epoch", "epoch-ms", "8 fps", "display", "margin"])
def test_another_unit_or_clock_is_an_error_that_says_what_it_looks_like(change, clock, message):
    with pytest.raises(InputError) as e:
        viewers_of(gaze_of(change or (lambda xy: xy), clock or (lambda t: t)))
    assert message in str(e.value) and "px of 320x240 frames" in str(e.value)


def test_percent_and_coordinates_from_the_centre_are_recognised():
    xy = np.random.default_rng(0).uniform(0, 1, (99, 2))
    assert "look like %: multiply them by 7.2 and 4.8" in D.place_hints(100 * xy, (480, 720))[0]
    assert "from the centre: add 360 and 240" in D.place_hints((xy - .5) * (720, 480), (480, 720))[0]
    assert D.place_hints(xy * (720, 480), (480, 720)) == []


@pytest.mark.parametrize("clock, hint", [
    (lambda t: t + 1.95, ""), (lambda t: t + 2.05, "t_s begins at 2.05, not with"),
    (lambda t: t - 2.05, "t_s begins at -"),
    (lambda t: 2.9 * t, ""), (lambda t: 3.1 * t + 1.5, "t_s spans 6.2, the clip lasts 2 s."),
    (lambda t: t / 2.9, ""), (lambda t: t / 3.1, "t_s spans 0.645161, the clip"),
    (lambda t: 6.5 * t, "t_s spans 13,"),
    (lambda t: 6.9 * t, "t_s looks like tenths of a second: multiply it by 0.1."),
    (lambda t: 14.5 * t, "t_s looks like tenths"), (lambda t: 15.2 * t, "t_s spans 30.4"),
    (lambda t: 100 * t, "t_s looks like hundredths of a second: multiply it by 0.01."),
    (lambda t: t / 60, "t_s looks like minutes: multiply it by 60."),
    (lambda t: t / 3600 + 1, "t_s looks like hours: multiply it by 3600. t_s begins at 1, not with")])
def test_times_in_another_unit_are_recognised_by_how_long_the_clip_lasts(clock, hint):
    found = D.clock_hints(clock(np.linspace(2, 0, 9)), TIMES)  # of several viewers, so in any order
    assert " ".join(found).startswith(hint) and bool(found) == bool(hint)
    assert len(found) <= 1 or "begins" in hint


@pytest.mark.parametrize("times", [[0], [0, .5], [0, .5, 2 / 3]], ids=len)
def test_the_last_frame_is_shown_as_long_as_the_mean_one_and_a_picture_for_a_second(times):
    t, times = np.linspace(0, 1, 9), np.array(times)
    assert D.clock_hints(t * 2.9, times) == [] != D.clock_hints(t * 3.1, times)


def test_one_viewer_in_another_unit_is_named_and_a_limit_refuses_no_length():
    records = gaze_of() | {"ms": gaze_of(clock=lambda t: 1000 * t)["v0"]}
    for whole in (True, False):  # with --limit, too
        with pytest.raises(InputError, match="c, viewer ms: gaze in 2% of the frames; .* t_s looks like milliseconds"):
            viewers_of(records, whole=whole)
    slow = gaze_of() | {"slow": gaze_of(clock=lambda t: 40 * t)["v0"]}  # .67 s between two records
    assert viewers_of(slow, whole=False)[2][0] == (
        "c, viewer slow: gaze in 15% of the frames. t_s spans 79.3333, the clip lasts 2 s")
    with pytest.raises(InputError, match="c, viewer slow: gaze in 1.% of the frames; expected t_s in s"):
        viewers_of(slow)
    late = gaze_of() | {"late": gaze_of(clock=lambda t: t + 1.9)["v0"]}  # little gaze, but in seconds
    assert viewers_of(late)[2][0].startswith("c, viewer late: gaze in ")
    assert viewers_of(gaze_of(clock=lambda t: t + 5), whole=False)[0] == []
    shares = gaze_of(lambda xy: xy / (320, 240))
    with pytest.raises(InputError, match="c, viewer s: all gaze within 1 px of the corner. x_px and y_px look like shares of the"):
        viewers_of(gaze_of() | {"s": shares["v0"]}, whole=False)
    for name, factor in dict(x_px=(1 / 320, 1), y_px=(1, 1 / 240)).items():
        strange = gaze_of(lambda xy: xy * factor)["v0"]
        strange[0, 1:], strange[1, 1:] = 300, np.nan  # of 120 one may lie anywhere
        with pytest.raises(InputError, match=f"viewer s: all gaze .* the corner. {name} looks like shares"):
            viewers_of(gaze_of() | {"s": strange})
        strange[70:] = gaze_of()["v0"][70:]
        assert len(viewers_of(gaze_of() | {"s": strange})[0]) == 5  # most of it only


@pytest.mark.parametrize("change, found, hint", [
    (lambda xy: xy * (.4, .45), "all in their top left quarter", "of a smaller picture? multiply by 320"),
    (lambda xy: xy / 3.2, "all in their top left quarter", "look like %: multiply them by 3.2 and 2.4"),
    (lambda xy: xy * 2, "outside of the pictures", "as px of a larger display"),
    (lambda xy: xy + (177, 0), "gaze of all viewers, x .* for 5[4-7]% outside of the pictures", ""),
    (lambda xy: xy - (160, 120), "outside of the pictures", "from the centre: add 160 and 120."),
    (lambda xy: xy / (16, 12) - 10, "outside of the pictures", "in degrees or another unit: convert them to px"),
    (lambda xy: xy / (160, 120) + (159, 119), "within a twentieth of their width and height; expected", "")])
def test_gaze_of_all_clips_in_an_unlikely_place_is_refused(change, found, hint):
    right, strange = (D.Watched(clip_of(records=lambda: records), TIMES, SIZE, ["v0"], np.empty(0), np.empty(0),
                                records) for records in (gaze_of(), gaze_of(change)))
    with pytest.raises(InputError, match=rf"^\.: .*{found}.*{re.escape(hint)}"):  # the folder of c.mp4
        D.check_places([strange])
    D.check_places([right, right._replace(viewers=[])])
    D.check_places([right._replace(some=gaze_of(lambda xy: xy + (140, 0)))])  # 44 % lie outside


@pytest.mark.parametrize("factor, hint", [((100 / 320, 100 / 240), "look like %: multiply them by 3.2 and 2.4"),
                                          ((1 / 320, 1 / 240), "look like shares of the picture")])
def test_one_viewer_in_another_unit_among_many_in_px_is_named(factor, hint):
    records = gaze_of(viewers=30) | {"odd": gaze_of(lambda xy: xy * factor)["v0"]}
    xy = np.stack([record[:, 1:] for record in records.values()])  # (V, S, 2)
    w = D.Watched(clip_of(records=lambda: records), TIMES, SIZE, [*records], xy, np.empty(0), records)
    with pytest.raises(InputError, match=f"the gaze of viewer odd, x .*{re.escape(hint)}"):
        D.check_places([w])
    del records["odd"]
    D.check_places([w])


@pytest.mark.parametrize("change, found", [
    (lambda xy: xy / 3.2, "top left quarter.* look like %: multiply them by 3.2 and 2.4"),
    (lambda xy: xy - (160, 120), "outside of the pictures.* from the centre: add 160 and 120"),
    (lambda xy: xy / (320, 1), "within 1 px of the corner.* x_px looks like shares of the picture: multiply it by 320")])
def test_one_clip_of_many_in_another_unit_is_named(change, found):
    """Its viewers have watched five others, in px, so that hardly any of their gaze is strange."""
    def seen(name, records, size=SIZE):
        clip = clip_of(records=lambda: records)
        clip.name = name
        return D.Watched(clip, TIMES, size, [*records], np.empty(0), np.empty(0), records)
    others = [seen(f"px{i}", gaze_of()) for i in range(3)]
    others += [seen(f"large{i}", gaze_of(lambda xy: xy * 3), (720, 960)) for i in range(2)]
    D.check_places(others)
    with pytest.raises(InputError, match=f"the gaze of all viewers on odd, x .*{found}"):
        D.check_places([*others, seen("odd", gaze_of(change))])


def test_where_gaze_lies_is_told_by_a_part_of_many_records_none_of_them_lost(monkeypatch):
    """Of 4 viewers with 120 records each every fifth is kept; lost ones at (0, 0) tell nothing of the unit."""
    monkeypatch.setattr(D, "SOME", 96)
    records = {viewer: record * (1, *[0] * 2) if viewer != "v0" else record for viewer, record in gaze_of().items()}
    clip = clip_of(records=lambda: records, lost_at_zero=True)
    w = D.Watched(clip, TIMES, SIZE, *D.viewers_of(clip, TIMES, SIZE, False, []))
    kept = np.concatenate([*w.some.values()])
    assert len(kept) == 96 and np.isfinite(kept[:, 1]).sum() == 24 and w.viewers == ["v0"]
    assert np.array_equal(w.some["v0"], records["v0"][::5])  # from the whole clip
    D.check_places([w])


def test_gaze_at_zero_is_suspected_and_missing_if_asked():
    records = gaze_of()
    for record in records.values():
        record[::16, 1:] = 0  # 8 of 120
    _, gaze, notes = viewers_of(records | {"v3": records["v3"][1:60]})  # 3 of 59
    assert "6.4% of the gaze is at exactly (0, 0)" in notes[0] and "--lost-at-zero" in notes[0]
    assert (gaze == 0).all(2).mean() > .05
    _, gaze, notes = viewers_of(records, lost_at_zero=True)
    assert not (gaze == 0).all(2).any() and np.isnan(gaze[..., 0]).mean() > .05 and len(notes) == 1
    for record, column in zip(records.values(), (1, 2, 1, 2)):
        record[::16, column] = 7  # at the left or the top border, not in the corner
    _, gaze, notes = viewers_of(records, lost_at_zero=True)
    assert np.isfinite(gaze).all() and not any("(0, 0)" in note for note in viewers_of(records)[2])


def test_lost_at_zero_reaches_the_study(tmp_path, monkeypatch):
    quick(monkeypatch)
    root = small_world(tmp_path / "w")
    for name in ("one", "two"):
        rows = read_csv(root / "gaze" / f"{name}.csv")
        write_csv([row | dict(x_px=0, y_px=0) if i % 5 == 0 else row for i, row in enumerate(rows)],
                  root / "gaze" / f"{name}.csv")
    E.main(["--models", "demo_dino4", "--device", "cpu", "--data", str(root), "--out", str(tmp_path / "o"),
            "--lost-at-zero"])
    notes = read_json(tmp_path / "o" / "results.json")["notes"]
    assert not any("(0, 0)" in note for note in notes) and any("gaze in 8" in note for note in notes)


def test_a_table_with_other_columns_is_named_before_any_frame_goes_through_a_model(tmp_path, monkeypatch):
    quick(monkeypatch)
    root = small_world(tmp_path / "w")
    (root / "gaze" / "two.csv").write_text("viewer,t,x,y\nv0,0,1,1\n")
    monkeypatch.setattr(E, "measure", lambda *of, **how: pytest.fail("a frame was measured"))
    monkeypatch.setattr(E, "load_models", lambda *of: pytest.fail("a model was loaded"))
    with pytest.raises(InputError, match=r"two.csv: no column t_s in the header \(viewer, t, x, y\)"):
        E.main(["--models", "demo_dino4", "--data", str(root), "--out", str(tmp_path / "o"), "--device", "cpu"])


def test_a_table_saved_by_excel_is_read_and_one_with_semicolons_is_named(tmp_path):
    root = small_world(tmp_path / "w")
    path = root / "gaze" / "one.csv"
    text = path.read_text()
    path.write_text(" viewer , t_s ,x_px,y_px\n" + text.split("\n", 1)[1], encoding="utf-8-sig")
    clip = D.load_study(str(root)).clips[0]
    assert sorted(clip.records()) == ["v0", "v1", "v2", "v3", "v4"]
    path.write_text(text.replace(",", ";"))
    with pytest.raises(InputError, match="semicolons"):
        clip.records()
    path.write_text("viewer,t_s,x_px,y_px\nv0,0,1,1\nv0,1,left,1\n")
    with pytest.raises(InputError, match="line 3: x_px is 'left'"):
        clip.records()


def test_tables_that_match_nothing_are_told(tmp_path):
    root = small_world(tmp_path / "w")
    strays = ("gaze/one.tsv", "gaze/x.csv", "keypoints/three.csv", "keypoints/one.npz", "masks/one.csv",
              "masks/x.npz")
    (root / "gaze" / "old").mkdir()
    for name in (*reversed(strays), "gaze/._one.csv"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_text("viewer")
    (root / "clips.csv").write_text("clip,genre\none.mp4,drama\ntwo,drama\n")
    (root / "viewers.csv").write_text("viewer,group\nv0,child\nV1,child\n")
    study = D.load_study(str(root))
    path = root / "gaze" / "two.csv"
    path.write_text(path.read_text().replace("v4", "w"))
    D.watch_all(study, None)
    assert study.notes[0] == "clips.csv, one.mp4: no clip has this name"
    assert [note.partition(":")[0] for note in study.notes[1:7]] == [*sorted(strays)]
    assert study.notes[1].endswith(": no clip has this name, or it is no .csv, so it is not used")
    assert study.notes[-2:] == ["a group, but no gaze: viewers V1",
                                "gaze, but no group: viewers v1, v2, v3, v4, w"]
    for text, said in (("viewer,Group\nv0,child\n", "no column group"),
                       ("viewer,group\nv0,child\nv0,adult\n", "viewer v0 is there twice")):
        (root / "viewers.csv").write_text(text)
        with pytest.raises(InputError, match=said):
            D.load_study(str(root))


def test_files_beside_the_clips_that_nothing_reads_are_named(tmp_path):
    root = small_world(tmp_path / "w")
    (root / "clips" / "three.gif2").write_bytes(b"")
    (root / "clips" / "._one.mp4").write_bytes(b"left by macOS")
    study = D.load_study(str(root))
    assert [clip.name for clip in study.clips] == ["one", "two"] and len(study.notes) == 1
    assert study.notes[0].startswith("clips/three.gif2: not read, no ending of a video (.mp4")
