"""exp05_looks: shares of looks at key points and masks, worked out by hand."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import exp05_data as D
import exp05_looks as L
from common import InputError
from exp05_frames import Clip
from gaze_worlds import N2010_SCENES, n2010_as_distributed, real
from results import write_csv


def test_looks_fall_off_with_distance_and_share_one_unit():
    points = np.array([[100., 100], [np.nan, np.nan], [400, 400]])
    at = L.viewing_proportion(np.array([[100., 100], [130, 100], [np.nan, np.nan]]), points)
    np.testing.assert_allclose(at[:2, 0], [1, np.exp(-.5)], atol=1e-12)
    assert (at[:2, 1] == 0).all() and np.isnan(at[2]).all()
    both = L.viewing_proportion(np.array([100., 100]), np.array([[100., 100], [100, 100]]))
    np.testing.assert_allclose(both, .5)


@pytest.mark.real
def test_authors_viewing_proportions_are_reproduced():
    data = real("gaze_position.npz")
    ours = L.viewing_proportion(data["vp_gaze"], np.stack([data["vp_x"].T, data["vp_y"].T], -1))
    keep = np.arange(50) != 9  # there their code moves the weights past an absent point
    np.testing.assert_allclose(ours[keep], data["vp"][keep], atol=1e-12)


def test_each_point_is_averaged_over_the_samples_in_which_it_exists():
    """One eye is there in every second sample: 50.6 + 43.8 / 2 = 72.5 % if a part's samples are counted
    together, 94.4 % if each point's are, as the paper does."""
    gaze, points = np.zeros((8, 2)), np.tile([[35., 0], [0, 38.56]], (8, 1, 1))
    points[1::2, 1] = np.nan
    u, v = np.exp(-35**2 / 1800), np.exp(-38.56**2 / 1800)
    assert round(100 * (u + v / 2), 1) == 72.5
    shares = L.part_shares(gaze, points, L.parts_of(["eyes", "eyes"]))
    assert shares["eyes"] == pytest.approx(100 * (u + v)) == pytest.approx(94.4, abs=.05)
    assert shares["face"] == shares["eyes"] and np.isnan(shares["mouth"]) and np.isnan(shares["animal_eyes"])


def test_animals_differ_from_picture_to_picture_so_that_their_points_are_summed_first():
    points = np.array([[[0., 0], [np.nan, np.nan], [300, 0]], [[300, 0], [0, 0], [300, 300]]])
    parts = L.parts_of(["animal_eyes", "animal_eyes", "animal_mouth"])
    shares = L.part_shares(np.zeros((2, 2)), points, parts)
    assert shares["animal_eyes"] == pytest.approx(100) and shares["animal_mouth"] == pytest.approx(0, abs=.1)
    points[0, 0] = np.nan  # no eye at all in the first picture
    assert L.part_shares(np.zeros((2, 2)), points, L.parts_of(["animal_eyes"] * 3))["animal_eyes"] == \
        pytest.approx(100 / 2, abs=.1)  # its one point is far away


def test_every_picture_has_the_eyes_and_the_mouth_of_its_own_animal():
    animals = [SimpleNamespace(eyes=np.array(eyes), mouth=np.array(mouth)) for eyes, mouth in (
        ([[1., 2], [3, 4]], [5., 6]), ([[7., 8]], [9., 10]), ([[11., 12]], [13., 14]))]
    points, parts = L.animal_points(SimpleNamespace(animals=animals), 2)
    np.testing.assert_array_equal(points, [[[1, 2], [3, 4], [5, 6]], [[7, 8], [np.nan, np.nan], [9, 10]]])
    assert {name: part.tolist() for name, part in parts.items() if part.any()} == {
        "animal_eyes": [True, True, False], "animal_mouth": [False, False, True], "animal_face": [True] * 3}


def test_samples_without_gaze_do_not_count_and_masks_are_hit_or_missed():
    points = np.array([[[10., 10], [90, 90]], [[10, 10], [np.nan, np.nan]], [[10, 10], [90, 90]]])
    gaze = np.array([[10., 10], [500, 500], [np.nan, np.nan]])
    shares = L.part_shares(gaze, points, L.parts_of(["eyes", "mouth"]))
    assert shares["eyes"] == pytest.approx(50, abs=.1) and shares["mouth"] == pytest.approx(0, abs=.1)
    masks = dict(body=np.zeros((3, 20, 40), bool), ground=np.zeros((3, 20, 40), bool))  # (T, img_h, img_w)
    masks["body"][1, 12, 30] = masks["ground"][:2, 5, 8] = True
    gaze = np.array([[30.9, 12.9], [30.2, 12.1], [np.nan, np.nan], [8, 5.5], [8, 5]])
    assert L.mask_shares(gaze, np.array([0, 1, 1, 1, 2]), masks) == {"body": 25, "ground": 25}


def test_body_and_ground_have_masks_of_their_own(tmp_path):
    body, ground = np.random.default_rng(0).uniform(size=(2, 5, 4, 6)) < .5
    np.savez(tmp_path / "m.npz", body=body, ground=ground)
    found = L.read_masks(tmp_path / "m.npz", 3, (4, 6))
    np.testing.assert_array_equal(found["body"], body[:3])
    np.testing.assert_array_equal(found["ground"], ground[:3])
    (tmp_path / "m.npz").write_bytes(b"damaged")
    with pytest.raises(InputError, match="m.npz: .*; expected arrays body and ground"):
        L.read_masks(tmp_path / "m.npz", 3, (4, 6))


def test_left_minus_right_needs_two_mouths_and_knows_left_from_right():
    points = np.array([[[200., 50], [200, 80], [40, 52], [40, 80], [900, 0]],
                       [[200., 50], [200, 80], [40, 52], [np.nan, np.nan], [900, 0]]])
    sides = L.face_sides(points, L.parts_of(["eyes", "mouth", "eyes", "mouth", "others"]))
    assert sides.tolist() == [[-1, -1, 1, 1, 0], [0, 0, 0, 0, 0]]
    left, right = np.array([[40., 66], [40, 66]]), np.array([[200., 66], [200, 66]])
    for gaze, sign in ((left, 1), (right, -1)):
        value = L.left_minus_right(gaze, points, sides)
        assert value[0] == pytest.approx(sign, abs=1e-4) and np.isnan(value[1])


def test_a_point_that_is_absent_keeps_its_row(tmp_path):
    rows = [dict(frame=0, part="eyes", x_px=1, y_px=2), dict(frame=0, part="eyes", x_px=3, y_px=4),
            dict(frame=0, part="head", x_px=2, y_px=3), dict(frame=1, part="eyes", x_px="", y_px=""),
            dict(frame=1, part="eyes", x_px=5, y_px=6), dict(frame=9, part="eyes", x_px=7, y_px=8)]
    write_csv(rows, tmp_path / "k.csv")
    points, parts = L.key_points(tmp_path / "k.csv", 2)
    np.testing.assert_array_equal(points, [[[1, 2], [3, 4]], [[np.nan, np.nan], [5, 6]]])
    assert parts["eyes"].tolist() == parts["face"].tolist() == [True, True] and not parts["mouth"].any()


# ------------------------------------------------------------------------------------------------ N2010

def n2010(root: Path) -> tuple[Clip, dict[str, np.ndarray]]:
    """Its clip and what a run of exp05_gaze_video keeps, with one trace that looks at (0, 0)."""
    clip = D.load_study(str(root)).clips[0]
    name = clip.name
    return clip, {f"gaze/{name}": np.zeros((2327, 1, 2)), f"times/{name}": np.arange(2327) / 29.93,
                  f"size/{name}": np.array([64, 96])}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    return n2010_as_distributed(tmp_path_factory.mktemp("n2010") / "N")


def test_annotation_is_read_as_distributed(world):
    scenes = L.read_annotation(world / "video_stimuli" / "eyeclip_annotation.txt")
    assert tuple((s.start + 1, s.end) for s in scenes.values()) == N2010_SCENES and list(scenes)[-1] == 12
    assert {key: value.tolist() for key, value in scenes[3].kinds.items()} == {
        "subj": [1, 1, 1, 0], "eye": [1, 2, 0, 0], "mouth": [0, 0, 0, 0], "face": [1, 1, 1, 0]}


def test_scenes_3_7_and_11_count_for_parts_and_scene_4_for_sides(world):
    clip, arrays = n2010(world)
    scenes, unread = L.load_scenes(arrays, [clip])
    assert unread == [] and [s.name for s in scenes] == [f"eyeclip1, scene {k}" for k in (3, 4, 7, 11)]
    three, four, seven, eleven = scenes
    assert [len(s.points) for s in scenes] == [213, 187, 196, 165] and four.parts == {}
    assert four.sides.tolist() == [[1, -1, 0]] * 187 and not three.sides.any() and not seven.sides.any()
    eyes = 100 * (np.exp(-35**2 / 1800) + np.exp(-38.56**2 / 1800))
    nose = 100 * np.exp(-80**2 / 1800)
    for viewer, count in ((0, 1), (4, .5)):  # children miss half of the samples, which look at nothing
        shares = L.part_shares(three.watched.gaze[viewer], three.points[three.watched.frame], three.parts)
        assert shares["eyes"] == pytest.approx(count * eyes, abs=.01) and np.isnan(shares["mouth"])
        assert shares["face"] == pytest.approx(count * (eyes + nose), abs=.01)
    # a head that looks where an adult looks has the adult's shares
    frame, adult = three.watched.frame, three.watched.gaze[0]
    assert sorted(set(frame.tolist())) == list(range(212))
    head = np.zeros((213, 2))
    head[frame] = adult
    assert L.part_shares(head[frame], three.points[frame], three.parts) == pytest.approx(
        L.part_shares(adult, three.points[frame], three.parts), nan_ok=True)
    assert np.isfinite(adult).all() and 212 not in frame  # the last frame counts as blank
    shares = L.part_shares(three.watched.gaze[8], three.points[three.watched.frame], three.parts)
    assert shares["eyes"] < 3  # autistic adults look at the other corner
    shares = L.part_shares(seven.watched.gaze[0], seven.points[seven.watched.frame], seven.parts)
    assert shares["mouth"] == shares["face"] == pytest.approx(100) and np.isnan(shares["eyes"])
    points = eleven.points[eleven.watched.frame]
    assert np.isnan([*L.part_shares(eleven.watched.gaze[0], points, eleven.parts).values()]).all()
    course = L.left_minus_right(four.watched.gaze[0], four.points[four.watched.frame], four.sides)
    other = np.exp(-80**2 / 1800)  # of the other face, 80 px away; together more than 1
    expected = (1 - other) / (1 + other)
    assert course[:93] == pytest.approx(expected) and course[93:] == pytest.approx(-expected)


def test_a_run_with_a_limit_has_the_scenes_that_began(world):
    clip, arrays = n2010(world)
    arrays = {key: value if key.startswith("size") else value[:400] for key, value in arrays.items()}
    scenes, _ = L.load_scenes(arrays, [clip])
    assert [s.name[-7:] for s in scenes] == ["scene 3"]
    assert len(scenes[0].points) == len(scenes[0].traces) == 74


@pytest.mark.parametrize("spoil, message", [
    (lambda text: text.replace("[327 539]", "(327-539)"), "a block of 9 lines that begins with \"'%3"),
    (lambda text: text.replace("subj=1", "person=1"), "KeyError('subj')"),
    (lambda text: text.replace("'%7", "'%70"), "no scene 7"),
    (lambda text: text.replace("subj=2", "subj=1"), "1 people with faces in scene 4, not 2"),
    (lambda text: text.replace("[2004 2168]", "[2004 2400]"), "up to frame 2400 in scene 11"),
    (lambda text: "", "a block of 1 lines that begins with ''"), (None, "No such file")],
    ids=["frames", "words", "scene", "one-face", "beyond", "empty", "absent"])
def test_another_annotation_is_one_sentence_and_no_parts(world, tmp_path, spoil, message):
    clip, arrays = n2010(world)
    text = clip.annotation.read_text(encoding="utf-8")
    clip.annotation = tmp_path / "eyeclip_annotation.txt"
    if spoil:
        clip.annotation.write_text(spoil(text), encoding="utf-8")
    (scene,), (sentence,) = L.load_scenes(arrays, [clip])
    assert message in sentence and scene.points.shape == (2327, 0, 2) and not scene.sides.any()
