#!/usr/bin/env bash
# Sets up what everything else here needs: an environment in .venv of this clone,
# with the packages that setup.cfg names, checked by one forward pass.
#
# Usage: [PYTHON=python3.12] bash tools/setup.sh [--check]
#
#   --check   repeat the checks of an environment that is set up already
#   PYTHON    the Python to build on, 3.10 to 3.13; by default python3, else the
#             newest of python3.13 to python3.10 on the PATH
#
# The other tools call it when needed; when all is in place it takes a moment. What
# is missing, half-made or out of date is repaired, if need be from scratch.
#
# pip's own settings apply. torch from PyPI is built for a recent CUDA. For an older
# driver set PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cu126 (for example;
# or .../whl/cpu for a smaller download without CUDA). A torch that you install into
# .venv later, in the range of setup.cfg, is kept.
set -euo pipefail
# shellcheck source=tools/_common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"

VENV="$ROOT/.venv"
ENV_CHECK="$ROOT/hri30_ext/utils/env_check.py"
INSTALLED="$VENV/.hri30-installed" # all packages are there
STAMP="$VENV/.hri30-setup"         # ... and have passed the checks

say() { printf 'setup: %s\n' "$*"; }

# -I: neither PYTHONPATH nor the current folder can stand in for what is installed.
env_check() { "$PY" -I "$ENV_CHECK" "$@"; }

# Prints "VERSION EXECUTABLE" of a Python, whatever shim or environment it is behind.
probe() {
    "$1" -I -c 'import platform, sys
print(platform.python_version(), getattr(sys, "_base_executable", sys.executable))' \
        2>/dev/null
}

supported() { [[ "$1" =~ ^3\.1[0-3]\. ]]; }

# Sets BASE_VERSION and BASE to the interpreter to build on.
choose_python() {
    local candidate found tried=''
    for candidate in ${PYTHON:+"$PYTHON"} \
        python3 python3.13 python3.12 python3.11 python3.10; do
        if found="$(probe "$candidate")"; then
            read -r BASE_VERSION BASE <<<"$found"
            if supported "$BASE_VERSION"; then return; fi
            tried="$BASE_VERSION"
        fi
        if [[ -n "${PYTHON:-}" ]]; then
            if [[ -n "$tried" ]]; then tried="is Python $tried"; fi
            die "PYTHON=$PYTHON ${tried:-is not a Python that runs}; 3.10 to 3.13 is needed"
        fi
    done
    die "no Python 3.10 to 3.13 on the PATH${tried:+ (found $tried)}: install one, or name it as PYTHON=/path/to/python3"
}

# Sets VERDICT (ready, check, update or rebuild) and REASON.
judge() {
    VERDICT='' REASON=''
    if [[ -x "$PY" ]]; then
        read -r VERDICT REASON < <(
            env_check state ${BASE_VERSION:+--python "$BASE_VERSION"} 2>/dev/null
        ) || true
    fi
    if [[ -z "$VERDICT" ]]; then
        VERDICT=rebuild
        if [[ -e "$VENV" ]]; then REASON='its Python does not run'; fi
    fi
}

build() {
    [[ -n "${BASE:-}" ]] || choose_python
    "$BASE" -I -c 'import ensurepip, venv' 2>/dev/null ||
        die "$BASE cannot make environments: its modules venv and ensurepip are missing. On Debian and Ubuntu install python3-venv (or python${BASE_VERSION%.*}-venv)"
    if [[ -n "$REASON" ]]; then say "making .venv anew: $REASON"; fi
    say "making .venv with Python $BASE_VERSION ($BASE)"
    # Another clone may use what is behind a link, and would lose it.
    [[ ! -L "$VENV" ]] || die "$VENV is a link to $(readlink -- "$VENV") and no environment of this clone ($REASON): remove the link"
    # pyvenv.cfg comes first and goes last: whenever this is cut short, the next run
    # still sees that the folder is an environment, and may be emptied.
    mkdir -p -- "$VENV"
    touch -- "$VENV/pyvenv.cfg"
    find "$VENV/" -mindepth 1 -maxdepth 1 ! -name pyvenv.cfg -exec rm -rf -- {} +
    "$BASE" -I -m venv "$VENV" || die "no environment could be made in $VENV"
}

install() {
    rm -f -- "$STAMP" "$INSTALLED"
    say "installing packages (the first time, torch alone may be some GB)"
    # All wheels: no compiler is needed. PIP_USER would lead out of the environment.
    (cd -- "$ROOT" && PIP_USER=0 "$PY" -I -m pip install \
        --disable-pip-version-check --only-binary=:all: -e '.[dev]') ||
        die "pip could not install the packages; its messages above say why. Run this again to go on"
    env_check record "$INSTALLED"
}

check() {
    local code=0
    env_check check || code=$?
    case "$code" in
    0)
        if [[ -e "$INSTALLED" ]]; then mv -f -- "$INSTALLED" "$STAMP"; fi
        return
        ;;
    4) rm -f -- "$STAMP" "$INSTALLED" ;; # a package is broken: make .venv anew
    *) if [[ -e "$STAMP" ]]; then mv -f -- "$STAMP" "$INSTALLED"; fi ;;
    esac
    ((code < 128)) || printf 'error: the check was killed (signal %d)\n' $((code - 128)) >&2
    die "the environment did not pass its checks; run bash tools/setup.sh again when that is mended"
}

check_again=false
while (($#)); do
    case "$1" in
    -h | --help) usage "${BASH_SOURCE[0]}" && exit ;;
    --check) check_again=true ;;
    *)
        printf 'error: unknown option: %s\n\n' "$1" >&2
        usage "${BASH_SOURCE[0]}" >&2
        exit 2
        ;;
    esac
    shift
done

BASE='' BASE_VERSION=''
if [[ -n "${PYTHON:-}" ]]; then choose_python; fi

judge
if [[ "$VERDICT" != ready ]]; then
    if [[ -e "$VENV" && ! -e "$VENV/pyvenv.cfg" ]] &&
        ! { [[ -d "$VENV" ]] && [[ -z "$(ls -A -- "$VENV")" ]]; }; then
        die "$VENV is there and is not a Python environment, so it is left alone: move it away"
    fi
    # One at a time; whoever waited finds the work done.
    if command -v flock >/dev/null; then
        exec 9>"$ROOT/.venv.lock"
        flock -n 9 || { say "waiting for another set-up of this clone" && flock 9; }
        judge
    fi
fi

case "$VERDICT" in
ready) if $check_again; then check; fi ;;
check) check ;;
update)
    say "bringing .venv up to date: $REASON"
    install
    check
    ;;
*)
    build
    install
    check
    ;;
esac
say "ready: $VENV ($("$PY" -I -c 'import platform; print("Python", platform.python_version())'))"
