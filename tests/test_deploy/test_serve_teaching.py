"""Classes that are added to a model while it is served."""

import pytest
from conftest import CLASSES, DEMO_CONFIG, random_checkpoint
from test_deploy.serving import TOKEN, FakeRecognizer, TestClient

from hri30_ext.apis.teaching import Teacher
from hri30_ext.deploy.serve.app import create_app
from hri30_ext.deploy.serve.guards import Access
from hri30_ext.errors import HRI30Error
from hri30_ext.synthetic import write_dataset


@pytest.fixture
def model(options, tmp_path):
    """A small model with random weights: its config, and its checkpoint."""
    lines = (f'{name} = {value!r}' for name, value in {
        **options, 'split': dict(val_groups=1)}.items() if '.' not in name)
    (tmp_path / 'small.py').write_text('\n'.join([f'_base_ = {DEMO_CONFIG!r}', *lines]))
    config = str(tmp_path / 'small.py')
    return config, random_checkpoint(config, {}, tmp_path / 'model.pth', std=1)


@pytest.mark.slow
def test_a_taught_class_is_recognized(model, clips_root, tmp_path):
    write_dataset(tmp_path / 'new', train_groups=3, test_groups=1, clips=1, size=(96, 64),
                  classes=(17,), progress=False)
    wave = [file.read_bytes() for file in sorted((tmp_path / 'new').rglob('train_set/*'))]
    old = [file.read_bytes() for file in sorted(clips_root.rglob('train_set/*'))]
    teacher = Teacher(model, str(tmp_path / 'taught'))
    app = create_app(teacher.recognizer, access=Access(TOKEN), teacher=teacher)
    key = {'Authorization': f'Bearer {TOKEN}'}
    with TestClient(app, base_url='http://localhost') as client:
        def teach(clips, name='Wave', headers=key, **more):
            return client.post('/v1/teach', params=dict(name=name, **more), headers=headers,
                               files=[('clip', ('a.avi', clip)) for clip in clips])

        def predict(clip):
            return client.post('/v1/predict', files=dict(clip=clip), headers=key).json()

        for status, message, answer in (
                (401, 'Expected the header', teach(wave, headers={})),
                (422, 'found 1 clip.\nExpected', teach(wave[:1])),
                (422, 'cannot be decoded', teach([*wave, b'no video'])),
                (422, 'at most 20', teach(wave * 7)),
                (422, 'name', teach(wave, '${classes}')),
                (422, 'name', teach(wave, '../Wave')),
                (422, 'already a class', teach(wave, CLASSES[0])),
                (422, 'falls from', teach(old, 'Copy'))):
            assert answer.status_code == status
            assert message in answer.json()['error']['message']
        assert not list((tmp_path / 'taught').iterdir())
        before, model_before = predict(wave[0]), client.get('/v1/model', headers=key).json()
        assert model_before['teach'] and len(before['scores']) == 3
        answer = teach(wave, force=True)
        assert answer.status_code == 200, answer.text
        assert answer.json()['classes'] == [*CLASSES, 'Wave']
        assert 'Wave: 3 of 3 clips' in answer.json()['message']
        assert predict(wave[0])['name'] == 'Wave'
        assert client.get('/v1/model', headers=key).json() == {
            **model_before, 'classes': [*CLASSES, 'Wave']}
        assert teach(wave, force=True).status_code == 422  # a class by now
    assert len(list((tmp_path / 'taught').glob('1/taught.pth'))) == 1


def test_without_a_teacher_there_is_no_teaching(tmp_path):
    with TestClient(create_app(FakeRecognizer()), base_url='http://localhost') as client:
        assert client.post('/v1/teach').status_code == 404
        assert client.get('/v1/model').json()['teach'] is False
    (tmp_path / 'exported').mkdir()
    with pytest.raises(HRI30Error, match='exported model cannot be taught'):
        Teacher([str(tmp_path / 'exported')], str(tmp_path / 'taught'))
