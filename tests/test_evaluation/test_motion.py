import numpy as np

from hri30_ext.datasets import HRI30_CLASSES
from hri30_ext.evaluation.motion import format_opposites, opposite_class
from hri30_ext.evaluation.results import Results


def test_opposites_are_an_involution_of_hri30s_classes():
    opposites = {name: opposite_class(name, HRI30_CLASSES) for name in HRI30_CLASSES}
    assert opposites['MoveForwardWhilePolishing'] == 'MoveBackwardsWhilePolishing'
    assert opposites['MoveDiagonallyForwardLeftWithDrill'] == (
        'MoveDiagonallyBackwardRightWithDrill')
    assert opposites['PutDownDrill'] == 'PickUpDrill'
    assert opposites['PickUpTheObject'] is None and opposites['Walking'] is None
    directed = {name for name, opposite in opposites.items() if opposite}
    assert len(directed) == 16 + 4
    assert all(opposites[opposites[name]] == name for name in directed)


def test_counting():
    results = Results('abcde', np.eye(3)[[1, 1, 0, 2, 2]],
                      ['MoveLeft', 'MoveRight', 'Walking'], [0, 0, 0, 1, 2])
    assert [line.split() for line in format_opposites(results).splitlines()] == [
        ['class', 'opposite', 'own', 'clips'], ['MoveLeft', '2', '1', '3'],
        ['MoveRight', '0', '0', '1'], ['all', '2', '1', '4']]
