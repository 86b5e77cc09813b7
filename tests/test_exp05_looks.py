"""exp05_looks: shares of looks at key points and masks, worked out by hand."""
import numpy as np
import pytest

import exp05_looks as L
from gaze_worlds import real


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


def test_left_minus_right_needs_two_mouths_and_knows_left_from_right():
    points = np.array([[[200., 50], [200, 80], [40, 52], [40, 80]],
                       [[200., 50], [200, 80], [40, 52], [np.nan, np.nan]]])
    parts = np.array([["eyes", "mouth", "eyes", "mouth"], ["eyes", "mouth", "eyes", ""]])
    left, right = np.array([[40., 66], [40, 66]]), np.array([[200., 66], [200, 66]])
    for gaze, sign in ((left, 1), (right, -1)):
        value = L.left_minus_right(gaze, points, parts)
        assert value[0] == pytest.approx(sign, abs=1e-4) and np.isnan(value[1])


def test_shares_count_the_samples_where_a_part_exists():
    points = np.array([[[10., 10], [90, 90]], [[10, 10], [np.nan, np.nan]], [[10, 10], [90, 90]]])
    parts = np.array([["eyes", "mouth"], ["eyes", ""], ["eyes", "mouth"]])
    gaze = np.array([[10., 10], [500, 500], [np.nan, np.nan]])
    shares = L.part_shares(gaze, points, parts)
    assert shares["eyes"] == pytest.approx(50, abs=.1) and shares["mouth"] == pytest.approx(0, abs=.1)
    assert shares["face"] == pytest.approx(50, abs=.1) and np.isnan(shares["animal_face"])  # frames 0 and 1
    mask = np.zeros((3, 20, 20), bool)
    mask[0, 10, 10] = True
    assert L.mask_shares(gaze[[0, 0]], np.array([0, 1]), dict(body=mask)) == {"body": 50}


def test_a_course_is_the_mean_over_looks_and_samples_of_a_frame():
    values = np.array([[1, 3, np.nan, 8], [2, np.nan, np.nan, np.nan]])
    course = L.mean_by_frame(values, np.array([0, 0, 1, 2]), 4)
    np.testing.assert_array_equal(course, [2, np.nan, 8, np.nan])
