"""One small step, and the memory of a large one."""

import re
from types import SimpleNamespace

import pytest
import torch
from conftest import DEMO_CONFIG, PROJECT_ROOT, run_tool

from hri30_ext.apis.dry_run import _Done, _Measure, dry_run


def test_one_step(options, tmp_path):
    """SGD with momentum: its state is as large as the parameters and the gradients."""
    pairs = [f'{name}={str(value).replace(", ", ",")}' for name, value in options.items()
             if name not in ('cache_dir', 'batch_size')]
    done = run_tool('train', DEMO_CONFIG, '--dry-run', '--cfg-options', *pairs,
                    'scale_lr=True', 'optimizer=sgd', 'batch_size=8', cwd=tmp_path,
                    GPUS='1', NNODES='3')
    assert done.returncode == 0, done.stderr
    rows = {name.strip(): text
            for name, text in re.findall(r'^  (\D{18}) (.*)$', done.stdout, re.M)}
    assert rows['batch'] == '8 clips'
    assert rows['learning rate'] == '0.002 after the warm-up'  # 0.004 x 8 / 16
    assert rows['parameters'] == rows['gradients'] == rows['optimizer state'] != '0.000 GB'
    assert rows['saved activations'] != '0.000 GB'
    assert not any(tmp_path.iterdir())


def test_a_frozen_model_takes_a_step_without_its_weights_and_keeps_no_tokens(
        options, tmp_path):
    config = next((PROJECT_ROOT / 'configs' / 'foundation').glob('conv_efficientnet*.py'))
    text = dry_run(str(config), {**options, 'features_dir': str(tmp_path / 'tokens')})
    assert '4 clips' in text and not (tmp_path / 'tokens').exists()


def test_activations_grow_with_the_batch_and_weights_do_not():
    model, hook = torch.nn.Linear(3, 5, bias=False), _Measure(batch=8)
    runner = SimpleNamespace(model=model, optim_wrapper=SimpleNamespace(
        optimizer=torch.optim.SGD(model.parameters())))
    hook.before_train_iter(runner, 0)
    clips = torch.ones(2, 3, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(hook.pack, lambda tensor: tensor):
        model(clips).exp().sum().backward()
    with pytest.raises(_Done):
        hook.after_train_iter(runner, 0)
    # For 8 clips: the input of the product, and the output of the exponential.
    assert hook.nbytes == {'parameters': 60, 'gradients': 60, 'optimizer state': 0,
                           'saved activations': 8 * (3 + 5) * 4}
