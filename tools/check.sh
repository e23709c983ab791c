#!/usr/bin/env bash
# Lints the code and runs the tests; sets up first where that was not done.
#
# Usage: bash tools/check.sh [--all] [pytest's own arguments]
#
#   --all   the slow tests too, as with CI=true in the environment
#
# For example: bash tools/check.sh tests/test_tools -x
# Exits 0 only if both lint and tests pass.
set -euo pipefail
# shellcheck source=tools/_common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"

if wants_help "$@"; then
    usage "${BASH_SOURCE[0]}"
    exit
fi

chosen=(-m 'not slow')
case "${CI:-}" in '' | 0 | false) ;; *) chosen=() ;; esac
arguments=()
for arg in "$@"; do
    if [[ "$arg" == --all ]]; then chosen=(); else arguments+=("$arg"); fi
done

ensure_venv

# From here on in the clone, where ruff and pytest find their settings.
cd -- "$ROOT"
lint=passed tests=passed
"$PY" -m ruff check . || lint=FAILED
# A process a core with one thread each: the models of the tests are too small to divide.
# A -m or -n among the user's own arguments wins, coming last.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
"$PY" -m pytest -n auto "${chosen[@]}" "${arguments[@]}" || tests=FAILED
printf 'check: lint %s, tests %s\n' "$lint" "$tests"
[[ "$lint$tests" == passedpassed ]]
