# shellcheck shell=bash
# What the launchers in this folder share. Sourced, after `set -euo pipefail`:
#
#   source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"
#
# Sets  ROOT           absolute path of the clone, symbolic links resolved
#       PY             the Python of the clone's environment
# Functions
#   usage FILE         prints the comment at the top of FILE, for --help
#   wants_help ARGS..  true if --help or -h is among ARGS
#   die MESSAGE [CODE] prints "error: MESSAGE" to stderr, exits with CODE (1)
#   ensure_venv        sets the environment up if it is not; says so on stderr
#   launch FILE ARGS.. runs a Python file with ARGS: plainly, or in as many processes
#                      as GPUS or NNODES say and with `--launcher pytorch` appended
#                      (see _launch.py). Returns the program's exit code.
#   launch_exec FILE ARGS..
#                      the same, in place of the shell: for a script's last line,
#                      so that a signal to the script reaches the program.

ROOT="$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
PY="$ROOT/.venv/bin/python"

usage() {
    sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' -- "$1"
}

wants_help() {
    local arg
    for arg in "$@"; do
        case "$arg" in -h | --help) return 0 ;; esac
    done
    return 1
}

die() {
    printf 'error: %s\n' "$1" >&2
    exit "${2:-1}"
}

ensure_venv() {
    bash "$ROOT/tools/setup.sh" >&2
}

_positive() {  # NAME VALUE LEAST
    if ! [[ "$2" =~ ^[0-9]{1,5}$ ]] || ((10#$2 < $3)); then
        die "$1=$2: expected a whole number, $3 or more" 2
    fi
}

# Puts the command line for a program into the array LAUNCH.
_launch_command() {
    LAUNCH=("$PY" "$@")
    if [[ -z "${GPUS:-}${NNODES:-}" ]] || wants_help "$@"; then return; fi

    local gpus="${GPUS:-1}" nodes="${NNODES:-1}" cores where
    _positive GPUS "$gpus" 1
    _positive NNODES "$nodes" 1
    if ((nodes > 1)); then
        [[ -n "${NODE_RANK:-}" && -n "${MASTER_ADDR:-}" ]] ||
            die "NNODES=$nodes also needs NODE_RANK (0 on the first node) and MASTER_ADDR (the first node's address)" 2
        _positive NODE_RANK "$NODE_RANK" 0
        where=("--nnodes=$nodes" "--node-rank=$NODE_RANK"
            "--master-addr=$MASTER_ADDR" "--master-port=${PORT:-29500}")
    else
        where=("--master-addr=${MASTER_ADDR:-127.0.0.1}" "--master-port=${PORT:-0}")
    fi
    # As many threads as there are cores, in all processes together.
    cores="$(nproc 2>/dev/null || echo 1)"
    export OMP_NUM_THREADS="${OMP_NUM_THREADS:-$((cores > gpus ? cores / gpus : 1))}"
    LAUNCH=("$PY" "$ROOT/tools/_launch.py" "--nproc-per-node=$gpus" "${where[@]}"
        "$@" --launcher pytorch)
}

launch() {
    _launch_command "$@"
    "${LAUNCH[@]}"
}

launch_exec() {
    _launch_command "$@"
    exec "${LAUNCH[@]}"
}
