"""tools/slurm_train.sh, on a machine whose Slurm only writes down what it is asked."""

import os
import subprocess

import pytest
from conftest import DEMO_CONFIG

from hri30_ext.config import PROJECT_ROOT

SCRIPT = PROJECT_ROOT / 'tools' / 'slurm_train.sh'
#: Writes its arguments and what matters of its environment, a line each.
RECORD = ('#!/bin/bash\n{ printf "%s\\n" "${0##*/}" "$@"; for name in GPUS NNODES '
          'MASTER_ADDR PORT HRI30_CLONE; do echo "$name=${!name}"; done; } >> "$RECORD"\n')


@pytest.fixture
def slurm(tmp_path):
    """Runs the script; returns its exit status and what the Slurm commands were told."""
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
        unset = dict.fromkeys(('GPUS', 'NNODES', 'PORT', 'SLURM_JOB_ID', 'HRI30_CLONE'), '')
        done = subprocess.run(
            ['bash', SCRIPT, *map(str, arguments)], capture_output=True, text=True,
            timeout=60, env={**os.environ, **unset, 'RECORD': str(record),
                             'PATH': f'{folder}:{os.environ["PATH"]}', **environment})
        return done.returncode, record.read_text().splitlines(), done.stderr

    return run


JOB = dict(HRI30_CLONE=str(PROJECT_ROOT), SLURM_JOB_ID='41234', SLURM_JOB_NUM_NODES='2',
           SLURM_JOB_NODELIST='node[7-8]', GPUS='8')


def test_a_job_is_sent(slurm, tmp_path):
    work_dir = tmp_path / 'a run'
    status, told, _ = slurm(DEMO_CONFIG, '--work-dir', work_dir, NNODES='2', GPUS='4',
                            SBATCH_OPTIONS='--partition=a100 --time=60')
    assert status == 0 and told[0] == 'sbatch'
    assert {'--nodes=2', '--gpus-per-node=4', '--ntasks-per-node=1', '--cpus-per-task=32',
            '--signal=USR1@120', '--requeue', '--partition=a100', '--time=60',
            f'--output={work_dir}/slurm-%j.out'} <= set(told)
    position = told.index(str(SCRIPT))
    assert told[position:position + 4] == [str(SCRIPT), DEMO_CONFIG, '--work-dir',
                                           str(work_dir)]
    assert f'HRI30_CLONE={PROJECT_ROOT}' in told and 'GPUS=4' in told
    assert work_dir.is_dir()  # where Slurm opens the log


def test_the_job_starts_one_launcher_a_node(slurm, tmp_path):
    status, told, _ = slurm(DEMO_CONFIG, f'--work-dir={tmp_path}', **JOB)
    assert status == 0 and told[0] == 'srun'
    assert told[-8:-5] == [str(PROJECT_ROOT / 'tools' / 'train.sh'), DEMO_CONFIG,
                           f'--work-dir={tmp_path}']
    assert told[-5:-1] == ['GPUS=8', 'NNODES=2', 'MASTER_ADDR=node7', 'PORT=21234']
    # What it runs there.
    command = told[told.index('-c') + 1]
    shown = subprocess.run(['bash', '-c', command, 'launcher', '-c', 'echo $NODE_RANK'],
                           env={**os.environ, 'SLURM_NODEID': '1'}, capture_output=True,
                           text=True)
    assert shown.stdout == '1\n'


@pytest.mark.parametrize('status, requeued', [(138, True), (2, False), (0, False)])
def test_a_job_whose_time_is_over_is_queued_again(slurm, tmp_path, status,
                                                        requeued):
    code, told, _ = slurm(DEMO_CONFIG, '--work-dir', tmp_path, **JOB,
                          SRUN_STATUS=str(status))
    assert (told[-7:-5] == ['requeue', '41234']) is requeued
    assert code == (0 if requeued else status)


def test_a_restarted_job_resumes_if_it_has_saved_something(slurm, tmp_path):
    arguments = DEMO_CONFIG, '--work-dir', tmp_path
    again = dict(JOB, SLURM_RESTART_COUNT='1')
    earlier, later = tmp_path / 'epoch_1.pth', tmp_path / 'within_epoch.pth'
    earlier.touch()  # of an earlier training
    os.utime(earlier, (1, 1))
    assert '--resume' not in slurm(*arguments, **JOB, SRUN_STATUS='1')[1]
    (tmp_path / 'best_top1_epoch_1.pth').touch()  # nothing to go on from
    assert '--resume' not in slurm(*arguments, **again, SRUN_STATUS='1')[1]
    later.touch()
    os.utime(later, (2**32, 2**32))
    assert '--resume' in slurm(*arguments, **again, SRUN_STATUS='1')[1]
    assert '--resume' not in slurm(*arguments, **JOB)[1]
    assert not list(tmp_path.glob('.slurm*'))  # all was done


def test_a_restarted_job_leaves_the_users_resume_alone(slurm, tmp_path):
    arguments = DEMO_CONFIG, f'--resume={tmp_path}/mine.pth', '--work-dir', tmp_path
    slurm(*arguments, **JOB, SRUN_STATUS='1')
    later = tmp_path / 'epoch_1.pth'
    later.touch()
    os.utime(later, (2**32, 2**32))
    told = slurm(*arguments, **JOB, SLURM_RESTART_COUNT='1')[1]
    assert [word for word in told if 'resume' in word] == [arguments[1]]


def test_mistakes(slurm):
    status, told, error = slurm()
    assert (status, told) == (2, []) and 'which config?' in error
    status, told, error = slurm(DEMO_CONFIG, PATH=os.environ['PATH'])
    assert (status, told) == (2, []) and 'sbatch is not on the PATH' in error
