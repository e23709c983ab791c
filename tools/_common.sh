# shellcheck shell=bash
# Shared by the scripts in this folder. Source it after `set -euo pipefail`:
#
#   source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"
#
# ROOT                    the clone, symbolic links resolved
# PY                      the Python of its environment
# usage FILE              prints the comment at the top of FILE, for --help
# wants_help ARGS..       true if --help or -h is among ARGS
# die MESSAGE [STATUS]    prints "error: MESSAGE" to stderr and exits with STATUS (1)
# ensure_venv             sets the environment up if needed, with output to stderr
# launch PROGRAM ARGS..   runs tools/PROGRAM in the processes that GPUS and NNODES name
# run_program NAME ARGS.. for the last line of NAME.sh: sets up, and becomes NAME.py

ROOT="$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
PY="$ROOT/.venv/bin/python"

usage() { sed -n -e '1d' -e '/^#/!q' -e 's/^# \{0,1\}//p' -- "$1"; }

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

ensure_venv() { bash "$ROOT/tools/setup.sh" >&2; }

launch() { "$PY" "$ROOT/tools/_launch.py" "$ROOT/tools/$1" "${@:2}"; }

run_program() {
    # Help needs no environment, unless python3 is too old.
    local python=python3
    [[ ! -x "$PY" ]] || python="$PY"
    if wants_help "$@"; then PYTHONPATH="$ROOT" exec "$python" "$ROOT/tools/$1.py" --help; fi
    ensure_venv
    exec "$PY" "$ROOT/tools/_launch.py" "$ROOT/tools/$1.py" "${@:2}"
}
