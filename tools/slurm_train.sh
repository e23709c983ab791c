#!/usr/bin/env bash
# Trains a config on nodes of a Slurm cluster: sends a job that runs tools/train.sh on
# every node, and goes on by itself where its time ends.
#
# Usage: [GPUS=8] [NNODES=1] [SBATCH_OPTIONS='--partition=gpu --time=8:00:00'] \
#            bash tools/slurm_train.sh CONFIG [options of tools/train.sh]
#
#   GPUS            processes on each node, one a GPU (8)
#   NNODES          nodes (1)
#   CPUS            cores for each process (8)
#   SBATCH_OPTIONS  anything else that sbatch takes; it beats what is set here
#
# Two minutes before its time is over, Slurm sends SIGUSR1: the training saves and ends
# with status 138, and the job is put into the queue again. It then begins with --resume,
# as after the failure of a node, if the job itself has saved something. The clone, the
# data and the work folder must be on storage that all nodes share. The log is
# slurm-JOB.out in the work folder.
#
# For example, 16 GPUs on two nodes, with the learning rate for as many:
#   NNODES=2 SBATCH_OPTIONS=--partition=a100 bash tools/slurm_train.sh \
#       configs/slowonly/slowonly_k400-pretrained-r50_1xb16-uniform8-100e_hri30-rgb.py \
#       --cfg-options data_root=/data/hri30 scale_lr=True
set -euo pipefail

# Slurm runs a copy of this file from its spool; HRI30_CLONE says where the clone is.
TOOLS="${HRI30_CLONE:+$HRI30_CLONE/tools}"
TOOLS="${TOOLS:-$(dirname -- "${BASH_SOURCE[0]}")}"
# shellcheck source=tools/_common.sh
source "$TOOLS/_common.sh"

# Prints the work folder that tools/train.py will use.
work_dir() {
    local previous='' arg config="$1"
    for arg in "$@"; do
        case "$arg" in --work-dir=*) printf '%s\n' "${arg#*=}" && return ;; esac
        if [[ "$previous" == --work-dir ]]; then printf '%s\n' "$arg" && return; fi
        previous="$arg"
    done
    config="${config##*/}"
    printf '%s\n' "$ROOT/work_dirs/${config%.py}"
}

# Whether the user says himself what is gone on from.
names_resume() {
    local arg
    for arg in "$@"; do
        case "$arg" in --resume | --resume=*) return 0 ;; esac
    done
    return 1
}

send() {
    local folder
    [[ $# -gt 0 && "$1" != -* ]] || die "which config? bash tools/slurm_train.sh --help" 2
    command -v sbatch >/dev/null || die "sbatch is not on the PATH: this is no Slurm cluster; bash tools/train.sh trains here" 2
    _positive GPUS "${GPUS:-8}" 1
    _positive NNODES "${NNODES:-1}" 1
    _positive CPUS "${CPUS:-8}" 1
    ensure_venv # here, where there is a network
    folder="$(work_dir "$@")"
    mkdir -p -- "$folder"
    export HRI30_CLONE="$ROOT" GPUS="${GPUS:-8}"
    # --signal: to the processes of the job alone, which save.
    # shellcheck disable=SC2086  # SBATCH_OPTIONS are words
    exec sbatch --job-name=hri30-train --nodes="${NNODES:-1}" --ntasks-per-node=1 \
        --gpus-per-node="$GPUS" --cpus-per-task=$((GPUS * ${CPUS:-8})) \
        --signal=USR1@120 --requeue --open-mode=append \
        --output="$folder/slurm-%j.out" ${SBATCH_OPTIONS:-} \
        "$ROOT/tools/slurm_train.sh" "$@"
}

# Within the job, on its first node.
run() {
    local status=0 saved folder mark resume=()
    export NNODES="$SLURM_JOB_NUM_NODES"
    if ((NNODES > 1)); then
        MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
        # Jobs that share a node must not share a port.
        export MASTER_ADDR PORT="${PORT:-$((20000 + SLURM_JOB_ID % 10000))}"
    fi
    # What is older than the job is of an earlier training in the same folder.
    folder="$(work_dir "$@")"
    mark="$folder/.slurm-$SLURM_JOB_ID"
    if ((${SLURM_RESTART_COUNT:-0} == 0)) || [[ ! -e "$mark" ]]; then
        mkdir -p -- "$folder" && touch -- "$mark"
    elif ! names_resume "$@"; then
        saved="$(find "$folder" -maxdepth 1 -newer "$mark" \
            \( -name 'epoch_*.pth' -o -name within_epoch.pth \) -print -quit)"
        if [[ -n "$saved" ]]; then resume=(--resume); fi
    fi
    # One launcher a node; SLURM_NODEID is known there.
    # shellcheck disable=SC2016
    srun --kill-on-bad-exit=0 bash -c 'NODE_RANK="$SLURM_NODEID" exec bash "$@"' launcher \
        "$ROOT/tools/train.sh" "$@" "${resume[@]}" || status=$?
    if ((status == 138)); then # saved at SIGUSR1
        exec scontrol requeue "$SLURM_JOB_ID"
    fi
    if ((status == 0)); then rm -f -- "$mark"; fi
    exit "$status"
}

if wants_help "$@"; then
    usage "${BASH_SOURCE[0]}"
elif [[ -n "${SLURM_JOB_ID:-}" && -n "${HRI30_CLONE:-}" ]]; then
    run "$@"
else
    send "$@"
fi
