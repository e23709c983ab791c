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
# ensure_venv [--dev]     sets the environment up if needed, with output to stderr
# HRI30                   the command line of its environment
# run_verb VERB ARGS..    for the last line of VERB.sh: sets up, and becomes hri30 VERB

ROOT="$(cd -P -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)"
PY="$ROOT/.venv/bin/python"
HRI30="$ROOT/.venv/bin/hri30"

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

ensure_venv() { bash "$ROOT/tools/setup.sh" "$@" >&2; }

run_verb() {
    # Help needs no environment, unless python3 is too old.
    local python=python3
    [[ ! -x "$PY" ]] || python="$PY"
    if wants_help "$@"; then
        PYTHONPATH="$ROOT" exec "$python" -m hri30_ext.cli "$1" --help
    fi
    ensure_venv
    exec "$HRI30" "$@"
}
