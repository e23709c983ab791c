#!/usr/bin/env bash
# Submits a training to a Slurm cluster, and requeues it when the time of the job ends.
#
# Usage: [GPUS=8] [NNODES=1] [CPUS=8] [SBATCH_OPTIONS='--partition=gpu --time=8:00:00'] \
#            bash tools/slurm_train.sh CONFIG [options of tools/train.sh]
#
# GPUS are the processes on each of NNODES nodes, CPUS the cores of each process.
# SBATCH_OPTIONS override the options below. Two minutes before its time ends, the training
# ends and the job is requeued. A restarted job, also after a node failed, resumes with the
# epoch after the last one that it saved, so that its time must be enough for an epoch. All
# nodes must share the storage of the clone, the data and the work folder, which gets
# slurm-JOB.out.
set -euo pipefail
job="${SLURM_JOB_ID:+${HRI30_CLONE:-}}" # in a job: the clone; this file is a copy
# shellcheck source=tools/_common.sh
source "${job:-$(dirname -- "${BASH_SOURCE[0]}")/..}/tools/_common.sh"

submit() {
    local options=()
    command -v sbatch >/dev/null || die "sbatch is not on the PATH; without Slurm use tools/train.sh" 2
    export GPUS="${GPUS:-8}"
    ensure_venv
    # This host may have no GPU.
    HRI30_WORK_DIR="$("$HRI30" train "$@" --print-work-dir --device cpu)"
    mkdir -p -- "$HRI30_WORK_DIR"
    [[ -z "${SBATCH_OPTIONS:-}" ]] || mapfile -t options < <(xargs printf '%s\n' <<<"$SBATCH_OPTIONS")
    export HRI30_WORK_DIR HRI30_CLONE="$ROOT"
    exec sbatch --job-name=hri30-train --nodes="${NNODES:-1}" --ntasks-per-node=1 \
        --gpus-per-node="$GPUS" --cpus-per-task="$((GPUS * ${CPUS:-8}))" --signal=USR1@120 \
        --requeue --open-mode=append --output="$HRI30_WORK_DIR/slurm-%j.out" \
        "${options[@]}" "$ROOT/tools/slurm_train.sh" "$@"
}

run() { # on the first node
    local status=0 resume=() mark="$HRI30_WORK_DIR/.slurm-$SLURM_JOB_ID"
    MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST")"
    # Jobs that share a node need ports of their own.
    export MASTER_ADDR="${MASTER_ADDR%%$'\n'*}" NNODES="$SLURM_JOB_NUM_NODES" PORT="${PORT:-$((20000 + SLURM_JOB_ID % 10000))}"
    # Checkpoints older than the mark are from another training.
    if [[ "${SLURM_RESTART_COUNT:-0}" == 0 || ! -e "$mark" ]]; then
        touch -- "$mark"
    elif [[ -n "$(find "$HRI30_WORK_DIR" -maxdepth 1 -newer "$mark" -name 'epoch_*.pth' -print -quit)" ]]; then
        resume=(--resume "$HRI30_WORK_DIR")
    fi
    # shellcheck disable=SC2016  # srun sets SLURM_NODEID
    srun --kill-on-bad-exit=0 bash -c 'NODE_RANK="$SLURM_NODEID" exec "$@"' launch "$HRI30" \
        train "$@" "${resume[@]}" || status=$?
    if ((status == 138)); then exec scontrol requeue "$SLURM_JOB_ID"; fi # ended by SIGUSR1
    if ((status == 0)); then rm -f -- "$mark"; fi
    exit "$status"
}

if wants_help "$@"; then usage "${BASH_SOURCE[0]}"; elif [[ -n "$job" ]]; then run "$@"; else submit "$@"; fi
