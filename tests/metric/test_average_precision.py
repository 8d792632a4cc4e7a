from __future__ import annotations

import numpy as np
import pytest

from detkit.metric.average_precision import Curve, area, coco_101_point, eleven_point, eleven_point_float

EMPTY = np.zeros(0)


@pytest.mark.parametrize("integrator", [area, eleven_point, coco_101_point])
def test_ends(integrator):
    assert integrator(EMPTY, EMPTY) == 0
    assert integrator(np.array([0.5, 1.0]), np.array([1.0, 1.0])) == pytest.approx(1)


def test_by_hand():
    recall, precision = np.array([0.25, 0.25, 0.5]), np.array([1.0, 0.5, 2 / 3])
    assert area(recall, precision) == pytest.approx(0.25 + 0.25 * 2 / 3)
    assert eleven_point(recall, precision) == pytest.approx((3 + 3 * 2 / 3) / 11)  # 0, .1, .2 and .3, .4, .5
    assert coco_101_point(recall, precision) == pytest.approx((26 + 25 * 2 / 3) / 101)


@pytest.mark.parametrize("total", [10, 20, 30, 70, 1000])
@pytest.mark.parametrize("tenths", range(11))
def test_recall_of_a_level_reaches_it(tenths, total):
    """Also 3 of 10, where the double 0.3 is below np.linspace(0, 1, 11)[3]."""
    found = np.arange(1, tenths * total // 10 + 1) / total
    assert eleven_point(found, np.ones_like(found)) == pytest.approx((tenths + 1) / 11 if tenths else 0)


def test_compared_as_doubles_three_tenths_is_below_its_level():
    found = np.array([0.1, 0.2, 0.3])
    assert eleven_point_float(found, np.ones(3)) == pytest.approx(3 / 11)


def test_best_f1_keeps_equal_scores_together():
    # the first of two equal scores alone would have F1 2 * 1 * .5 / 1.5; no threshold can keep only it
    curve = Curve(np.array([0.5, 0.5, 0.5]), np.array([1.0, 0.5, 1 / 3]), np.array([0.9, 0.9, 0.2]), 2)
    assert curve.best_f1() == pytest.approx((0.5, 0.9, 0.5, 0.5))
    assert np.isnan(Curve(EMPTY, EMPTY, EMPTY, 3).best_f1()).all()
