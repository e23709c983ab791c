"""A new class from a few clips: what it changes, what it leaves, what is refused."""


import numpy as np
import pytest
from conftest import CLASSES, DEMO_CONFIG, as_arguments, call_hri30, random_checkpoint
from mmaction.registry import MODELS
from sklearn.linear_model import LogisticRegression

from hri30_ext.apis import Recognizer, teaching
from hri30_ext.apis import test as run_test
from hri30_ext.apis.teaching import fit_row, forget, teach
from hri30_ext.config import PROJECT_ROOT, load_config
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import write_dataset

PROBE = str(next((PROJECT_ROOT / 'configs' / 'foundation').glob('*embedded-rgb.py')))
SMALL = {'backbones.efficientnet-lite0.name': 'test_efficientnet',
         'backbones.efficientnet-lite0.pretrained': None}


@pytest.fixture(scope='module')
def new_clips(tmp_path_factory):
    """Three clips of another action."""
    root = tmp_path_factory.mktemp('new')
    write_dataset(root, train_groups=3, test_groups=1, clips=1, size=(96, 64),
                  classes=(17,), progress=False)
    return sorted(map(str, (root / 'train_set').iterdir()))


@pytest.mark.parametrize('config, extra', [(DEMO_CONFIG, {}), (PROBE, SMALL)])
def test_a_class_is_added_and_taken_back(config, extra, options, new_clips, clips_root,
                                         tmp_path, monkeypatch, capsys):
    options = {**options, **extra}
    checkpoint = random_checkpoint(config, options, tmp_path / 'model.pth', std=1)
    out = tmp_path / 'taught'
    assert call_hri30('teach', config, checkpoint, '--add', 'Wave', *new_clips, '--out',
                      out, '--force', *as_arguments(options)) == 0
    taught = [str(next(out.glob('*.py'))), str(out / 'taught.pth')]
    said = capsys.readouterr().out
    assert 'Wave: 3 of 3 clips' in said and '3 validation clips' in said
    recognizer = Recognizer(*taught, device='cpu')
    if not extra:  # settings of its own are in the config alone
        assert Recognizer(taught[1], device='cpu').classes == recognizer.classes
    assert list(recognizer.classes) == [*CLASSES, 'Wave']
    found = recognizer.predict(new_clips)
    assert [one.class_name for one in found] == ['Wave'] * 3
    # The ratios of the old scores stay.
    old = Recognizer(config, checkpoint, device='cpu', options=options)
    clips = [*new_clips, *map(str, sorted((clips_root / 'train_set').iterdir()))]
    before = np.array([one.scores for one in old.predict(clips)])
    after = np.array([one.scores for one in recognizer.predict(clips)])[:, :3]
    np.testing.assert_allclose(after / after.sum(1, keepdims=True), before, atol=1e-4)
    assert run_test(*taught, 'val')['val']['num_videos'] == 3

    # Once more, from the features of the training clips beside the taught checkpoint.
    describe = teaching._Trained.describe
    monkeypatch.setattr(teaching._Trained, 'describe', lambda self, files: describe(
        self, files if files == new_clips[:2] else pytest.fail('not cached')))
    again = teach(taught, 'Two', new_clips[:2], str(tmp_path / 'two'),
                  force=True)
    one = forget(again, 'Wave', str(tmp_path / 'one'))
    assert load_config(one[0]).classes == [*CLASSES, 'Two']
    back = forget(one, 'Two', str(tmp_path / 'back'))
    returned = Recognizer(*back, device='cpu')
    np.testing.assert_array_equal(
        [one.scores for one in returned.predict(clips)], before)


def test_what_is_refused(options, new_clips, clips_root, tmp_path, monkeypatch):
    checkpoint = random_checkpoint(DEMO_CONFIG, options, tmp_path / 'model.pth', std=1)
    model = [DEMO_CONFIG, checkpoint]
    broken = tmp_path / 'broken.avi'
    broken.write_bytes(b'no video')

    def attempt(*arguments, **others):
        return teach(model, *arguments, str(tmp_path / 'out'),
                     **{'options': options, **others})

    for message, name, clips, others in (
            ('found 0 clips', 'Wave', [], {}),
            ('found 1 clip.\n', 'Wave', new_clips[:1], {}),
            ('no such file', 'Wave', ['none.avi'], {}),
            ('is already a class', CLASSES[0], new_clips, {}),
            ('1 of 3 clips cannot be read:\n.*broken.avi', 'Wave',
             [*new_clips[:2], str(broken)], {}),
            ('no such.*\nTeaching takes', 'Wave', new_clips,
             dict(options={**options, 'data_root': str(tmp_path / 'none')})),
            ('falls from 0', 'Copy', [str(clips_root / 'train_set')], {})):
        with pytest.raises(HRI30Error, match=f'(?s){message}'):
            attempt(name, clips, **others)
    assert not list((tmp_path / 'out').iterdir())
    with pytest.raises(HRI30Error, match='Expected one of: none was taught'):
        forget(model, 'Wave', str(tmp_path / 'out'), options)
    taught = attempt('Copy', [str(clips_root / 'train_set')], force=True)
    with pytest.raises(HRI30Error, match='is not empty'):
        attempt('Wave', new_clips)
    model[:] = taught
    with pytest.raises(HRI30Error, match='Expected one of: Copy'):
        forget(model, CLASSES[0], str(tmp_path / 'other'))
    # A layer between the linear one and the scores.
    monkeypatch.setattr(MODELS.get('I3DHead'), 'forward', lambda self, x, **_: -self.fc_cls(
        self.avg_pool(x).flatten(1)))
    with pytest.raises(HRI30Error, match='I3DHead are not those of a linear layer'):
        teach(model, 'Wave', new_clips, str(tmp_path / 'other'))


def test_a_row_beside_constant_logits_is_that_of_scikit_learn():
    random = np.random.default_rng(0)
    is_new_N = np.arange(60) < 6
    x_NC = random.normal(size=(60, 4)) + is_new_N[:, None]
    x_NC = (x_NC - x_NC.mean(0)) / np.sqrt(x_NC.var(0).mean())
    row_C, bias = fit_row(x_NC, np.zeros((60, 1)), is_new_N)
    expected = LogisticRegression(class_weight='balanced', tol=1e-8).fit(x_NC, is_new_N)
    np.testing.assert_allclose(row_C, expected.coef_[0], atol=1e-3)
    assert bias == pytest.approx(expected.intercept_[0], abs=1e-3)
    # Features in other units and logits that are all higher by 5 change nothing but those.
    other_C, other = fit_row(10 * x_NC + 3, np.full((60, 1), 5.), is_new_N)
    np.testing.assert_allclose(10 * other_C, row_C, atol=1e-3)
    assert other + 3 * other_C.sum() == pytest.approx(bias + 5, abs=1e-3)
