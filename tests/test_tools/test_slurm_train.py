"""tools/slurm_train.sh with Slurm commands that only record how they are called."""

import os
import shutil
import subprocess
import sys

import pytest
from conftest import DEMO_CONFIG

from hri30_ext.config import PROJECT_ROOT

NAMES = ('GPUS', 'NNODES', 'MASTER_ADDR', 'PORT', 'HRI30_CLONE', 'HRI30_WORK_DIR')
#: Writes its name, its arguments and parts of its environment, one on each line.
RECORD = ('#!/bin/bash\n{ printf "%s\\n" "${0##*/}" "$@"; for name in '
          f'{" ".join(NAMES)}; do echo "$name=${{!name}}"; done; }} >> "$RECORD"\n')


@pytest.fixture
def clone(tmp_path):
    """A clone whose environment is that of the tests."""
    clone = tmp_path / 'a clone'
    for name in ('tools', 'hri30_ext'):
        shutil.copytree(PROJECT_ROOT / name, clone / name)
    (clone / '.venv' / 'bin').mkdir(parents=True)
    (clone / '.venv' / 'bin' / 'python').symlink_to(sys.executable)
    program = clone / '.venv' / 'bin' / 'hri30'
    program.write_text(f'#!/bin/bash\nexec {sys.executable} -m hri30_ext.cli "$@"\n')
    program.chmod(0o755)
    (clone / 'tools' / 'setup.sh').write_text('')
    return clone


@pytest.fixture
def slurm(clone, tmp_path):
    """Runs the script; returns exit status, what Slurm commands got, and stderr."""
    folder, record = tmp_path / 'bin', tmp_path / 'record'
    folder.mkdir()
    for name, text in dict(
            sbatch=RECORD, srun=f'{RECORD}exit ${{SRUN_STATUS:-0}}\n',
            scontrol='#!/bin/bash\nif [[ $1 == show ]]; then echo node7; echo node8; else\n'
                     f'{RECORD[len("#!/bin/bash"):]}fi\n').items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def run(*arguments, **environment):
        record.write_text('')
        unset = dict.fromkeys((*NAMES, 'SLURM_JOB_ID', 'CPUS'), '')
        done = subprocess.run(
            ['bash', clone / 'tools' / 'slurm_train.sh', *map(str, arguments)],
            capture_output=True, text=True, timeout=60, cwd=tmp_path,
            env={**os.environ, **unset, 'RECORD': str(record), 'PYTHONPATH': clone,
                 'PATH': f'{folder}:{os.environ["PATH"]}', **environment})
        return done.returncode, record.read_text().splitlines(), done.stderr

    return run


@pytest.fixture
def job(clone, tmp_path):
    """The environment of a job on two nodes."""
    return dict(HRI30_CLONE=str(clone), HRI30_WORK_DIR=str(tmp_path), SLURM_JOB_ID='41234',
                SLURM_JOB_NUM_NODES='2', SLURM_JOB_NODELIST='node[7-8]', GPUS='8')


@pytest.mark.parametrize('option', ['--work-dir {}', '--work-dir={}'])
def test_a_job_is_submitted(slurm, clone, tmp_path, option):
    arguments = [part.format(tmp_path / 'a run') for part in option.split(' ')]
    status, record, error = slurm(
        DEMO_CONFIG, *arguments, NNODES='2', GPUS='4',
        SBATCH_OPTIONS='--partition=a100 --comment="two words" --time=60')
    assert status == 0 and record[0] == 'sbatch', error
    assert {'--nodes=2', '--gpus-per-node=4', '--ntasks-per-node=1', '--cpus-per-task=32',
            '--signal=USR1@120', '--requeue', '--partition=a100', '--time=60',
            '--comment=two words', f'--output={tmp_path}/a run/slurm-%j.out'} <= set(record)
    position = record.index(str(clone / 'tools' / 'slurm_train.sh'))
    assert record[position + 1:position + 2 + len(arguments)] == [DEMO_CONFIG, *arguments]
    assert {f'HRI30_CLONE={clone}', 'GPUS=4'} <= set(record)
    assert (tmp_path / 'a run').is_dir()  # where Slurm opens the log
    # Set outside of a job, the variable means nothing.
    record = slurm('configs/my_config.py', HRI30_CLONE='/elsewhere')[1]
    assert f'HRI30_WORK_DIR={clone}/work_dirs/my_config' in record


def test_the_job_starts_one_launcher_on_each_node(slurm, clone, job):
    status, record, error = slurm(DEMO_CONFIG, '--work-dir=x', **job)
    assert status == 0 and record[0] == 'srun', error
    program = record.index(str(clone / '.venv' / 'bin' / 'hri30'))
    assert record[program + 1:program + 4] == ['train', DEMO_CONFIG, '--work-dir=x']
    assert record[-6:-2] == ['GPUS=8', 'NNODES=2', 'MASTER_ADDR=node7', 'PORT=21234']
    command = record[record.index('-c') + 1]
    done = subprocess.run(['bash', '-c', command, 'launch', 'printenv', 'NODE_RANK'],
                          env={**os.environ, 'SLURM_NODEID': '1'}, capture_output=True,
                          text=True)
    assert done.stdout == '1\n'


@pytest.mark.parametrize('status, requeued', [(138, True), (2, False), (0, False)])
def test_a_job_whose_time_ends_is_requeued(slurm, job, status, requeued):
    code, record, _ = slurm(DEMO_CONFIG, **job, SRUN_STATUS=str(status))
    assert (record[-8:-6] == ['requeue', '41234']) is requeued
    assert code == (0 if requeued else status)


def test_a_restarted_job_resumes_from_what_it_saved(slurm, job, tmp_path):
    again = dict(job, SLURM_RESTART_COUNT='1')
    earlier, later = tmp_path / 'epoch_1.pth', tmp_path / 'epoch_2.pth'
    earlier.touch()  # from another training
    os.utime(earlier, (1, 1))
    assert '--resume' not in slurm(DEMO_CONFIG, **job, SRUN_STATUS='1')[1]
    (tmp_path / 'best_top1_epoch_1.pth').touch()  # nothing to resume from
    assert '--resume' not in slurm(DEMO_CONFIG, **again, SRUN_STATUS='1')[1]
    later.touch()
    os.utime(later, (2**32, 2**32))
    arguments = DEMO_CONFIG, f'--resume={tmp_path}/mine.pth'
    record = slurm(*arguments, **again, SRUN_STATUS='1')[1]
    assert record.index('--resume') > record.index(arguments[1])
    assert record[record.index('--resume') + 1] == str(tmp_path)
    assert '--resume' not in slurm(DEMO_CONFIG, **job)[1]
    assert not list(tmp_path.glob('.slurm*'))  # the training is complete


def test_mistakes(slurm):
    for arguments, environment, message in (
            ([], {}, 'expected CONFIG, or --resume WORK_DIR'),
            ([DEMO_CONFIG, '--work', 'x'], {}, 'unrecognized arguments: --work x'),
            ([DEMO_CONFIG], dict(PATH=os.environ['PATH']), 'sbatch is not on the')):
        status, record, error = slurm(*arguments, **environment)
        assert (status, record) == (2, []) and message in error
