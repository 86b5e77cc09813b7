"""exp05_frames: videos, folders of frames and Animal Parts give the pictures and times that people saw."""
import struct
from contextlib import nullcontext
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest
import scipy.io
import torch
from PIL import Image

import exp05_data as D
import exp05_frames as X
import exp05_looks as L
from common import InputError
from gaze_worlds import write_n2010_gaze, write_video

torch.set_num_threads(1)


# ------------------------------------------------------------------------------------------------ videos

def test_area_resampling_equals_opencv():
    image = (np.arange(40 * 56 * 3).reshape(40, 56, 3) * 7919 % 256).astype(np.uint8)
    x = torch.from_numpy(image).permute(2, 0, 1)[None]
    ours = X.resized(x, 16, .8)  # ceil(.8 40 / 16) 16 = 32 rows, ceil(.8 56 / 16) 16 = 48 columns
    assert ours.shape == (1, 3, 32, 48)
    # cv2.resize(image, (48, 32), interpolation=cv2.INTER_AREA), OpenCV 5.0.0: green of some rows, columns
    expected = [[224, 87, 200, 56, 168], [46, 151, 81, 120, 144], [96, 201, 72, 184, 106],
                [160, 23, 136, 109, 104]]
    levels = 255 * ours  # whole ones, as in the file from which the authors' models read
    torch.testing.assert_close(levels, levels.round(), atol=1e-4, rtol=0)
    found = levels[0, 1, ::9, ::11].round().int()
    off = (found - torch.tensor(expected)).abs()
    assert off.max() <= 1 and (off == 0).float().mean() > .9  # halves are rounded differently
    assert abs((255 * ours).sum() - 587387) < 500
    assert X.resized(torch.zeros(1, 3, 480, 720, dtype=torch.uint8), 16, None).shape[2:] == (480, 720)
    assert X.resized(torch.zeros(1, 3, 75, 88, dtype=torch.uint8), 16, None).shape[2:] == (80, 96)  # nearest
    assert X.resized(torch.zeros(1, 3, 9, 50, dtype=torch.uint8), 16, None).shape[2:] == (32, 48)  # 2 or more
    for (img_h, img_w), size in {(468, 851): (384, 688),
                                 (360, 853): (288, 688)}.items():  # the authors' CW2019
        assert X.resized(torch.zeros(1, 3, img_h, img_w, dtype=torch.uint8), 16, .8).shape[2:] == size


def frames_of(path: Path, fps: float | None = None, notes: list | None = None) -> tuple[D.Watched, X.Frames]:
    clip = X.Clip(path.name, path, dict, fps=fps)
    w = D.watch(clip, None, [] if notes is None else notes)
    return w, X.Frames(clip, len(w.times))


def test_videos_and_folders_of_frames_come_in_order_and_again(tmp_path, monkeypatch):
    frames, begun = X.frames, []
    monkeypatch.setattr(X, "frames", lambda clip: begun.append(clip) or frames(clip))
    pictures = np.zeros((12, 64, 96, 3), np.uint8) + np.arange(12, dtype=np.uint8)[:, None, None, None] * 15
    pictures, notes = write_video(tmp_path / "a.mp4", pictures=pictures + np.uint8([60, 30, 0])), []  # reddish
    w, data = frames_of(tmp_path / "a.mp4", notes=notes)
    assert w.size == (64, 96) and len(data) == 12 and notes == []
    assert w.times == pytest.approx(np.arange(12) / 24, abs=1e-3)
    means = [data[i]["image"].double().mean((0, 1)) for i in (0, 3, 4, 11, 2)]
    assert len(begun) == 2  # the last one starts again
    np.testing.assert_allclose(torch.stack(means), pictures[[0, 3, 4, 11, 2]].mean((1, 2)), atol=6)
    (tmp_path / "b.1").mkdir()
    names = ["start.bmp", *(f"{i}.png" for i in range(1, 12))]  # 10 comes after 9
    for name, p in zip(names, pictures):
        Image.fromarray(p).save(tmp_path / "b.1" / name)
    (tmp_path / "b.1" / "readme.txt").write_text("no frame")
    files = [X.Clip("", tmp_path / name, dict).files() for name in ("a.mp4", "b.1")]
    assert files == [[tmp_path / "a.mp4"], sorted((tmp_path / "b.1").iterdir())]
    w, data = frames_of(tmp_path / "b.1", 12.)
    assert w.times == pytest.approx(np.arange(12) / 12)
    assert all((data[i]["image"].numpy() == p).all() for i, p in enumerate(pictures))


@pytest.mark.parametrize("start", [0, 2000])
def test_a_variable_frame_rate_is_kept_and_times_count_from_the_first_frame(tmp_path, start):
    pts = np.array([0, 40, 80, 300, 340])
    write_video(tmp_path / "v.mp4", 5, pts=start + pts)
    assert frames_of(tmp_path / "v.mp4")[0].times == pytest.approx(pts / 1000, abs=2e-3)


@pytest.mark.parametrize("times, announced, tenths, n, message", [
    ([None, None, None], 3, 3, 3, ""), ([7.2, 7.3, 7.4], 3, 9, 3, ""), ([7.2, 7.3, 7.4], 5, 3.4, 3, ""),
    ([7.2, 7.3, 7.4], 5, 3.6, 3, "the file ends early, it announces 5"),  # 1.6 frames before its end
    ([7.2, 7.3, 7.4], 5, None, 3, "the file ends early"), ([7.2, 7.3, "torn"], 3, 3, 2, "a damaged frame")])
def test_frames_without_times_damaged_or_missing_are_seen(monkeypatch, times, announced, tenths, n, message):
    """Of a file of 10 frames a second and pixels whose shape it does not tell; tenths: its duration."""
    shown = [SimpleNamespace(time=t, is_corrupt=t == "torn", height=4, width=6, side_data={}) for t in times]
    stream = SimpleNamespace(codec_context=SimpleNamespace(), frames=announced, average_rate=10, time_base=.1,
                             duration=tenths, sample_aspect_ratio=None)
    file = SimpleNamespace(streams=SimpleNamespace(video=[stream, None]), decode=lambda stream: shown)
    monkeypatch.setattr(X.av, "open", lambda name: nullcontext(file))
    w, _ = frames_of(Path("a.mp4"), notes=(notes := []))
    assert w.times == pytest.approx(np.arange(n) / 10) and w.size == (4, 6)
    assert message in " ".join(notes) and len(notes) == bool(message)


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


# ------------------------------------------------------------------------------------------------ as displayed

ONE = 1 << 16  # of the display matrix in an MP4 file
MATRICES = {"upright": (ONE, 0, 0, ONE), "clockwise": (0, ONE, -ONE, 0), "anticlockwise": (0, -ONE, ONE, 0),
            "half": (-ONE, 0, 0, -ONE), "mirrored": (-ONE, 0, 0, ONE), "transposed": (0, ONE, ONE, 0),
            "nearly": (ONE - 600, 600, 0, ONE)}
SHOWN = {"upright": lambda x: x, "nearly": lambda x: x, "clockwise": lambda x: np.rot90(x, -1),
         "anticlockwise": np.rot90, "half": lambda x: np.rot90(x, 2), "mirrored": np.fliplr,
         "transposed": lambda x: x.swapaxes(0, 1)}


def set_matrix(path: Path, a: int, b: int, c: int, d: int) -> None:
    """What a phone that was held so writes into the track's header."""
    raw = bytearray(path.read_bytes())
    at = raw.index(b"tkhd") + 4 + 40
    raw[at:at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(raw)


def quarters(path: Path, n: int = 3, size: tuple = (64, 96), **how) -> None:
    """A video whose four quarters are black, dark, grey and white, so that no turn goes unseen."""
    picture = np.array([[0, 80], [160, 240]], np.uint8).repeat(size[0] // 2, 0).repeat(size[1] // 2, 1)
    write_video(path, n, size, pictures=np.tile(picture[None, :, :, None], (n, 1, 1, 3)), **how)


@pytest.mark.parametrize("name", MATRICES)
def test_a_video_is_turned_and_mirrored_as_a_player_does(tmp_path, name):
    quarters(tmp_path / "a.mp4")
    upright = frames_of(tmp_path / "a.mp4")[1][1]["image"].numpy()
    set_matrix(tmp_path / "a.mp4", *MATRICES[name])
    notes = []
    w, data = frames_of(tmp_path / "a.mp4", notes=notes)
    shown = data[1]["image"].numpy()
    np.testing.assert_array_equal(shown, SHOWN[name](upright))
    assert notes == [] and w.size == shown.shape[:2] and len(data) == 3


@pytest.mark.parametrize("matrix, said", [
    ((46341, 46341, -46341, 46341), "[0.71, 0.71, -0.71, 0.71]"),
    ((56756, 32768, -32768, 56756), "[0.87, 0.5, -0.5, 0.87]"),
    ((ONE, 0, 0, ONE - 720), "[1.0, 0.0, 0.0, 0.99]"), ((ONE, 0, ONE, ONE), "[1.0, 0.0, 1.0, 1.0]"),
    *[((a, b, c, d), str([a / ONE, b / ONE, c / ONE, d / ONE])) for a, b, c, d in (
        (ONE, ONE, 0, 0), (ONE, 0, ONE, 0), (0, ONE, 0, ONE), (0, 0, ONE, -ONE))]])
def test_a_video_that_is_not_turned_by_quarters_is_named(tmp_path, matrix, said):
    quarters(tmp_path / "a.mp4")
    set_matrix(tmp_path / "a.mp4", *matrix)
    notes = []
    assert not len(frames_of(tmp_path / "a.mp4", notes=notes)[1])
    assert f"display matrix {said} is no quarter turn" in notes[0]


@pytest.mark.parametrize("aspect, width", [
    (Fraction(4, 3), 128), (Fraction(8, 9), 85), (Fraction(16, 11), 140), (None, 96)])
@pytest.mark.parametrize("end", ["mp4", "mkv"])
def test_pixels_that_are_not_square_are_shown_square(tmp_path, aspect, width, end):
    quarters(tmp_path / f"a.{end}", aspect=aspect)
    w, data = frames_of(tmp_path / f"a.{end}")
    shown = data[0]["image"].numpy()
    assert w.size == shown.shape[:2] == (64, width)
    with av.open(str(tmp_path / f"a.{end}")) as file:
        stored = next(file.decode(video=0)).to_ndarray(format="rgb24").astype(float)  # (64, 96, 3)
    area = stored.repeat(width, 1).reshape(64, width, 96, 3).mean(2)
    assert np.abs(shown - area).max() < .501  # to the nearest level
    means = [shown[:30, :width // 2 - 4].mean(), shown[:30, width // 2 + 4:].mean(), shown[34:, width // 2 + 4:].mean()]
    np.testing.assert_allclose(means, [0, 80, 240], atol=6)


def test_a_turned_video_of_wide_pixels_is_made_square_before_it_is_turned(tmp_path):
    quarters(tmp_path / "a.mp4", aspect=Fraction(4, 3))
    set_matrix(tmp_path / "a.mp4", *MATRICES["clockwise"])
    w, data = frames_of(tmp_path / "a.mp4")
    shown = data[0]["image"].numpy()
    assert w.size == shown.shape[:2] == (128, 64)
    means = [shown[:60, :28].mean(), shown[:60, 36:].mean(), shown[68:, :28].mean(), shown[68:, 36:].mean()]
    np.testing.assert_allclose(means, [160, 0, 240, 80], atol=6)


def test_n2010_is_taken_as_stored_because_its_gaze_is_in_stored_pixels(tmp_path):
    (tmp_path / "clips").mkdir()
    quarters(tmp_path / "clips" / "a.mp4", aspect=Fraction(8, 9))
    set_matrix(tmp_path / "clips" / "a.mp4", *MATRICES["clockwise"])
    write_n2010_gaze(tmp_path, np.full((4, 90, 2), 50.), [1] * 4)
    study = D.load_study(str(tmp_path))
    assert D.watch(study.clips[0], None, study.notes).size == (64, 96)
    with av.open(str(study.clips[0].source)) as file:
        stored = next(file.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(X.Frames(study.clips[0], 1)[0]["image"].numpy(), stored)


def test_frames_of_a_folder_are_turned_by_their_exif(tmp_path):
    (tmp_path / "f").mkdir()
    image = Image.fromarray(np.arange(96 * 64 * 3, dtype=np.uint8).reshape(64, 96, 3))
    image.getexif()[274] = 6  # turn clockwise
    image.save(tmp_path / "f" / "1.png", exif=image.getexif())
    (tmp_path / "f" / "._1.png").write_bytes(b"left by macOS")
    w, data = frames_of(tmp_path / "f")
    np.testing.assert_array_equal(data[0]["image"].numpy(), np.rot90(np.asarray(image), -1))
    assert w.size == (96, 64) and len(data) == 1


@pytest.mark.parametrize("first, count", [(0, 6), (0, 3), (2, 4), (2, 2)])
def test_a_video_that_an_edit_list_cuts_is_not_damaged(tmp_path, first, count):
    pictures = write_video(tmp_path / "a.mp4", 6)
    raw = bytearray((tmp_path / "a.mp4").read_bytes())
    at = raw.index(b"elst") + 12  # duration in 1/1000 s; where it begins in 1/12288 s, 512 a frame
    raw[at:at + 8] = struct.pack(">ii", round(1000 * count / 24), 512 * first)
    (tmp_path / "a.mp4").write_bytes(raw)
    notes = []
    w, data = frames_of(tmp_path / "a.mp4", notes=notes)
    assert notes == [] and len(data) == count
    assert w.times == pytest.approx(np.arange(count) / 24, abs=1e-3)
    means = [data[i]["image"].double().mean() for i in range(count)]
    np.testing.assert_allclose(means, pictures[first:first + count].mean((1, 2, 3)), atol=3)


def test_a_last_frame_that_is_shown_for_two_seconds_is_no_damage(tmp_path):
    write_video(tmp_path / "a.mp4", 5)
    with av.open(str(tmp_path / "a.mp4")) as file, av.open(str(tmp_path / "b.mp4"), "w") as new:
        stream = new.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.dts is not None:
                if packet.pts * packet.time_base > .16:
                    packet.duration = int(2 / packet.time_base)
                packet.stream = stream
                new.mux(packet)
    notes = []
    assert len(frames_of(tmp_path / "b.mp4", notes=notes)[1]) == 5 and notes == []


def test_a_file_that_was_cut_off_is_damaged_also_with_its_index_in_front(tmp_path):
    write_video(tmp_path / "a.mp4", 12)
    with av.open(str(tmp_path / "a.mp4")) as file, \
            av.open(str(tmp_path / "b.mp4"), "w", options={"movflags": "faststart"}) as new:
        stream = new.add_stream_from_template(file.streams.video[0])
        for packet in file.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                new.mux(packet)
    raw, notes = (tmp_path / "b.mp4").read_bytes(), []
    (tmp_path / "b.mp4").write_bytes(raw[:-(len(raw) - raw.index(b"mdat")) // 2])
    n = len(frames_of(tmp_path / "b.mp4", notes=notes)[1])
    assert 0 < n < 12 and f"b.mp4: damaged after {n} frames" in notes[0]


# ------------------------------------------------------------------------------------------------ Animal Parts

def animal_world(folder: Path) -> Path:
    """Animal Parts as distributed, with the authors' file of mouths: image 0 is 100 wide and 60 high, image 1
    40 wide and 80 high with two eyes, image 2 has no mouth; training images and one without eyes do not count.
    """
    (folder / "val" / "n01440764").mkdir(parents=True)
    names = ["train/n01/val_1.JPEG", "val/ILSVRC2012_val_00000007.JPEG", "val/ILSVRC2012_val_00000003.JPEG",
             "val/ILSVRC2012_val_00000005.JPEG", "val/ILSVRC2012_val_00000001.JPEG"]
    cells = np.empty((1, 5), object)
    cells[0] = names
    box = dict(id=np.array([31, 2, 3, 54, 45, 6]), imageId=np.array([900, 907, 902, 904, 903, 904]))
    points = dict(boxId=np.array([31, 2, 45, 45, 54, 6]),
                  pos=np.array([[5, 70, 10, 20, 9, 99], [5, 12, 60, 71, 9, 99]], np.float32))
    scipy.io.savemat(folder / "imdb-animalParts-eye.mat", dict(
        images=dict(name=cells, id=np.array([900, 907, 902, 903, 904])), bbx=box, kp=points))
    np.savez(folder / "shifted_mouth_pos_val.npz", mouth_pos=np.array([[128., 200], [100, 100]]),
             img_indices=np.array([0., 1.]))
    for number, size in ((7, (100, 60)), (3, (50, 50)), (5, (40, 80)), (1, (30, 30))):
        picture = np.zeros((size[1], size[0], 3), np.uint8)
        picture[:, size[0] // 2:] = 200  # the right half is bright
        picture[:9] = 100
        Image.fromarray(picture).save(folder / "val" / "n01440764" / f"ILSVRC2012_val_{number:08d}.JPEG")
    return folder


def test_animal_parts_are_read_cut_and_resized_as_by_the_authors(tmp_path):
    animal_world(tmp_path / "animal_parts")
    (tmp_path / "clips").mkdir()  # none; the animals come last
    study = D.load_study(str(tmp_path))
    (clip,), notes = study.clips, study.notes
    assert notes == [] and [p.name[-13:] for p in clip.files()] == ["00000007.JPEG", "00000005.JPEG"]
    wide, high = clip.animals
    assert clip.blank == (0, 1)  # nobody watched them: they count in no mean over frames
    # wide: the eye is at x = 70, the half width 50: the square begins at 20, ends at 80; 256 / 60 as large
    assert wide.corner == (20, 0) and wide.side == 60
    np.testing.assert_allclose(wide.eyes, [[50 * 256 / 60, 12 * 256 / 60]])
    # high: the eyes' mean is at y = 65.5, 25.5 beyond the half height: 25 is the first of the two nearest
    assert high.corner == (0, 25) and high.side == 40
    np.testing.assert_allclose(high.eyes, [[10 * 6.4, 35 * 6.4], [20 * 6.4, 46 * 6.4]])
    assert high.mouth.tolist() == [100, 100]
    eyes = [xy.tolist() for _, xy in X.animal_eyes(tmp_path / "animal_parts" / "imdb-animalParts-eye.mat")]
    assert eyes == [[[70, 12]], [[10, 60], [20, 71]], [[9, 9]]]  # of the last image's two boxes the first
    w = D.watch(clip, None, notes)
    assert w.size == (256, 256) and w.times.tolist() == [0, 1] and w.viewers == [] and notes == []
    assert w.gaze.shape == (0, 0, 2) and w.frame.shape == (0,) and w.some == {}
    pictures, cut = X.Frames(clip, 2), (np.s_[:, 20:80], np.s_[25:65])
    for i, (one, px) in enumerate(zip(clip.animals, (4, 8))):  # 256 and 60 px have parts of 4 px, and 40 of 8
        picture = pictures[i]["image"].numpy()
        area = np.array(Image.open(one.file))[cut[i]].astype(float)
        for _ in range(2):
            area = area.repeat(256 // px, 0).reshape(256, one.side // px, -1, 3).mean(1).swapaxes(0, 1)
        assert np.abs(picture - area).max() < .501  # to the nearest level
        assert picture[99:, :120].max() < 30 and picture[99:, 136:].min() > 170  # the middle is in the middle
    points, parts = L.animal_points(clip, 2)
    np.testing.assert_allclose(points[0], [wide.eyes[0], [np.nan, np.nan], [128, 200]])
    assert parts["animal_eyes"].tolist() == [True, True, False] and parts["animal_face"].all()


def test_mouths_are_those_of_the_images_that_their_indices_name(tmp_path):
    folder = animal_world(tmp_path / "animal_parts")
    (tmp_path / "clips" / "z").mkdir(parents=True)
    np.savez(folder / "shifted_mouth_pos_val.npz", mouth_pos=np.array([[1., 2], [5, 6], [3, 4]]),
             img_indices=[2., 3, 1])  # of three images with eyes
    study = D.load_study(str(tmp_path))
    other, animals = study.clips
    assert [(one.file.stem[-1], *one.mouth) for one in animals.animals] == [("5", 3, 4), ("1", 1, 2)]
    assert (other.name, animals.name) == ("z", "animal_parts") and animals.blank == (0, 1)
    assert study.notes == ["animal_parts: 1 of 3 images are not there"]


def test_animals_at_the_edge_stop_one_pixel_before_it_as_in_the_authors_code(tmp_path):
    for at, corner in ((3, 0), (99, 39), (88.5, 38), (88.6, 39)):
        for size, eye, expected in (((100, 60), (at, 59), (corner, 0)), ((60, 100), (59, at), (0, corner)),
                                    ((60, 60), (59, 59), (0, 0))):
            Image.new("RGB", size).save(tmp_path / "a.jpg")
            eyes = np.array([eye, eye, eye]) + [[3], [-1], [-2]]
            assert X.animal(tmp_path / "a.jpg", eyes, np.zeros(2)).corner == expected


def test_animals_that_are_not_there_are_counted_and_none_is_refused(tmp_path):
    folder, notes = animal_world(tmp_path / "animal_parts"), []
    (folder / "val" / "n01440764" / "ILSVRC2012_val_00000007.JPEG").unlink()
    assert len(X.animal_clip(folder, notes).animals) == 1
    assert notes == ["animal_parts: 1 of 2 images are not there"]
    (folder / "val" / "n01440764" / "ILSVRC2012_val_00000005.JPEG").unlink()
    with pytest.raises(InputError, match="none of 2 images of animals .first: ILSVRC2012_val_00000007.JPEG."):
        X.animal_clip(folder, notes)
    np.savez(folder / "shifted_mouth_pos_val.npz", mouth_pos=np.zeros((2, 2)), img_indices=[1])
    with pytest.raises(InputError, match="npz: .* is longer than .*; expected the authors' mouth_pos"):
        X.animal_clip(folder, notes)
    (folder / "shifted_mouth_pos_val.npz").unlink()
    with pytest.raises(InputError, match="No such file.*; expected the authors' mouth_pos"):
        X.animal_clip(folder, notes)
    (folder / "imdb-animalParts-eye.mat").write_bytes(b"no mat")
    with pytest.raises(InputError, match="imdb-animalParts-eye.mat"):
        X.animal_clip(folder, notes)
