#!/usr/bin/env bash
# Lints the code, checks the imports between rooms and runs the tests; sets up if needed.
#
# Usage: bash tools/check.sh [--all] [pytest's own arguments]
#
#   --all   bandit and the slow tests too, as with CI=true in the environment
#
# For example: bash tools/check.sh tests/test_tools -x
# Exits 0 only if everything passes. Fuzzing, stress, soak and the benchmark have their own
# command: .venv/bin/python tests/nightly/run.py --help
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

ensure_venv --dev

# ruff, import-linter and pytest find their settings in the clone.
cd -- "$ROOT"
lint=passed imports=passed safety='not run' tests=passed
"$PY" -m ruff check . || lint=FAILED
"$PY" -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-cache ||
    imports=FAILED
if [[ ${#chosen[@]} == 0 ]]; then
    safety=passed
    "$PY" -m bandit -q -r hri30_ext tools -c pyproject.toml || safety=FAILED
fi
# One process a core with one thread each: the models of the tests are too small to divide.
# A -m or -n among the user's own arguments comes last and wins.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
run_tests() { "$PY" -m pytest "$@" "${chosen[@]}" "${arguments[@]}" || tests=FAILED; }
run_tests -n auto
if [[ $tests == FAILED ]]; then
    # Tests of processes and their time limits can fail on a loaded machine.
    echo 'check: the failed tests run again, one at a time; what fails twice counts'
    tests='passed, some in the second run'
    run_tests -n 0 --last-failed --last-failed-no-failures none
fi
printf 'check: lint %s, imports %s, bandit %s, tests %s\n' "$lint" "$imports" "$safety" "$tests"
[[ "$lint$imports$safety$tests" != *FAILED* ]]
