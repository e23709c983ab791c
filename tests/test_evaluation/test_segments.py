"""Scores of segments, by hand."""

import pytest

from hri30_ext.evaluation.segments import (
    Segment,
    count_matches,
    edit_score,
    score_segments,
)


def segments(text):
    """Makes segments of ten times their seconds: 'A0-10 B15-20'."""
    return [Segment(*(float(time) / 10 for time in one[1:].split('-')), one[0])
            for one in text.split()]


# Numbers of true positives at 10, 25 and 50 %.
@pytest.mark.parametrize('predicted, truth, expected', [
    ('A0-10', 'A0-10', [1] * 3),
    ('A0-10', 'B0-10', [0] * 3),  # the wrong action
    ('A0-5', 'A0-10', [1] * 3),  # exactly a half
    ('A0-49', 'A0-100', [1, 1, 0]),
    ('A3-4', 'A3-7', [1, 1, 0]),  # exactly a quarter
    ('A2-3', 'A2-12', [1, 0, 0]),  # exactly a tenth
    ('A0-9', 'A0-100', [0] * 3),
    ('A0-10', 'A5-15', [1, 1, 0]),  # a third
    # One action in three pieces: one matches, which has 40 %.
    ('A0-3 A4-8 A9-10', 'A0-10', [1, 1, 0]),
    ('A0-10 A20-30', 'A0-10 B12-18 A20-30', [2] * 3),
    ('A0-30', 'A0-10 A20-30', [1, 1, 0]),  # a gap is missed
    ('', 'A0-10 B10-20', [0] * 3), ('A0-10', '', [0] * 3)])
def test_segments_are_matched_by_their_overlap(predicted, truth, expected):
    assert [count_matches(segments(predicted), segments(truth), threshold)
            for threshold in (.1, .25, .5)] == expected


@pytest.mark.parametrize('predicted, truth, expected', [
    ('ABC', 'ABC', 100), ('AC', 'ABC', 200 / 3), ('ABABC', 'ABC', 60), ('BA', 'AB', 0),
    ('ABAB', 'BABA', 50), ('', 'AB', 0), ('AB', '', 0), ('', '', 100),
    ('CDE', 'ABCDE', 60), ('XBCX', 'ABCD', 50)])
def test_edit_score(predicted, truth, expected):
    one, other = ([Segment(i, i + 1, label) for i, label in enumerate(text)]
                  for text in (predicted, truth))
    assert edit_score(one, other) == pytest.approx(expected)
    assert edit_score(other, one) == pytest.approx(expected)


def test_recordings_together():
    scores = score_segments([
        (segments('A0-12 B12-20'), segments('A0-20')),  # 12 of 20 are right, IoU 12/20
        (segments('B40-50'), segments('A0-10 B40-60'))],  # 10 of 30, IoU 1/2
        [2.5, 5])  # the second lasts to 6 s
    f1 = pytest.approx(200 * 2 / 6)
    assert scores == {
        'recordings': 2, 'predicted': 3, 'true': 3, 'F1@10': f1, 'F1@25': f1, 'F1@50': f1,
        'edit': pytest.approx(50), 'frames': pytest.approx(100 * 22 / 50),
        # Background on both sides: 20-25, and 10-40.
        'frame_accuracy': pytest.approx(100 * (22 + 5 + 30) / 85)}
    nothing = score_segments([([], [])], [4.])
    assert nothing['F1@50'] == nothing['edit'] == nothing['frame_accuracy'] == 100
    assert nothing['frames'] is None


def test_nothing_to_score_is_no_nan():
    scores = score_segments([], [])
    assert scores['edit'] is scores['frames'] is scores['frame_accuracy'] is None
    point = segments('A5-5')
    scores = score_segments([(point, point)], [0.])
    assert scores['F1@10'] == 0 and scores['frames'] is None
