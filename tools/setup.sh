#!/usr/bin/env bash
# Creates the environment of this clone in .venv, with the versions of requirements.lock,
# and checks it with one convolution.
#
# Usage: [PYTHON=python3.12] bash tools/setup.sh [--check] [--dev]
#
#   --check   check an environment again that is already set up
#   --dev     add the packages that only the tests need, of requirements-dev.lock; they stay
#             until the environment is rebuilt
#   PYTHON    the Python to use, 3.10 to 3.13; by default python3, or the newest of
#             python3.13 to python3.10 on the PATH
#
# Other tools call this script when needed; on a complete environment it takes a second.
# An interrupted, damaged or outdated environment is repaired or rebuilt.
#
# torch comes from the index or the wheel folder that pip is configured for, as a build
# for the CPU or for CUDA. For another CUDA, set PIP_EXTRA_INDEX_URL to the index that
# pytorch.org gives for it. A torch that you install into .venv yourself is kept if
# setup.cfg allows its version.
set -euo pipefail
# shellcheck source=tools/_common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"

TORCH=2.13.0 TORCHVISION=0.28.0 # a pair
VENV="$ROOT/.venv"
STAMP="$VENV/.hri30-setup" # what a complete environment was made from: root, lock, hash
LOCK=requirements.lock     # or requirements-dev.lock, which has the same packages and more

say() { printf 'setup: %s\n' "$*"; }

# -I: ignores PYTHONPATH and the current folder.
env_check() { "$PY" -I "$ROOT/hri30_ext/env_check.py" "$@"; }

fingerprint() {
    printf '%s\n%s\ntorch %s\n' "$ROOT" "$LOCK" "$TORCH"
    cat -- "$ROOT"/{setup.cfg,pyproject.toml,"$LOCK"} | sha256sum
}

# Sets BASE and BASE_VERSION to the Python to build on.
choose_python() {
    local name found='no Python' names=(python3 python3.13 python3.12 python3.11 python3.10)
    if [[ -n "${PYTHON:-}" ]]; then names=("$PYTHON"); fi
    for name in "${names[@]}"; do
        read -r BASE_VERSION BASE < <("$name" -I -c 'import platform, sys
print(platform.python_version(), getattr(sys, "_base_executable", sys.executable))' \
            2>/dev/null) || continue
        if [[ "$BASE_VERSION" =~ ^3\.1[0-3]\. ]]; then return; fi
        found="Python $BASE_VERSION"
    done
    die "${PYTHON:+PYTHON=$PYTHON: }found $found; 3.10 to 3.13 is needed. Install one, or name it: PYTHON=/path/to/python3"
}

# Sets STATE to ready, update or rebuild, and REASON.
examine() {
    local version
    if [[ "$(sed -n 2p -- "$STAMP" 2>/dev/null)" == requirements-dev.lock ]]; then
        LOCK=requirements-dev.lock
    fi
    STATE=rebuild REASON=''
    if ! version="$("$PY" -I -c 'import pip, platform; print(platform.python_version())' 2>/dev/null)"; then
        [[ ! -e "$VENV" ]] || REASON='its Python or pip does not run'
    elif [[ -n "$BASE_VERSION" && "$version" != "$BASE_VERSION" ]]; then
        REASON="it has Python $version, and PYTHON=$PYTHON is $BASE_VERSION"
    elif [[ ! -e "$STAMP" ]]; then
        REASON='its set-up was not finished'
    elif [[ "$(head -n 1 -- "$STAMP")" != "$ROOT" ]]; then
        REASON='it was made for another folder'
    elif STATE=update && [[ "$(<"$STAMP")" != "$(fingerprint)" ]]; then
        REASON='the list of packages changed'
    elif REASON="$(env_check packages "$ROOT/$LOCK")"; then
        STATE=ready
    fi
}

build() {
    [[ -n "$BASE" ]] || choose_python
    "$BASE" -I -c 'import ensurepip, venv' 2>/dev/null ||
        die "$BASE lacks the modules venv and ensurepip. On Debian and Ubuntu install python3-venv (or python${BASE_VERSION%.*}-venv)"
    [[ ! -L "$VENV" ]] || die "$VENV is a link to $(readlink -- "$VENV"), which is not the environment of this clone ($REASON): remove the link"
    say "creating .venv with Python $BASE_VERSION ($BASE)${REASON:+, because $REASON}"
    # pyvenv.cfg comes first and goes last: it marks the folder as one that may be emptied.
    mkdir -p -- "$VENV"
    touch -- "$VENV/pyvenv.cfg"
    find "$VENV/" -mindepth 1 -maxdepth 1 ! -name pyvenv.cfg -exec rm -rf -- {} +
    "$BASE" -I -m venv "$VENV" || die "cannot create an environment in $VENV"
}

pip_install() {
    PIP_USER=0 "$PY" -I -m pip install --disable-pip-version-check --only-binary=:all: "$@" ||
        die "pip cannot install the packages; see its messages above. Run this again to continue"
}

# uv is faster, but does not read pip's settings. Not in the clone, whose [tool.uv] is for
# making the lock.
locked_install() {
    if command -v uv >/dev/null; then
        (cd / && uv pip install --quiet --python "$PY" --no-deps "$@") && return
    fi
    pip_install --quiet --no-deps "$@"
}

install() {
    rm -f -- "$STAMP"
    say "installing packages (torch alone may be some GB)"
    # torchvision names its torch exactly: the pair, or what fits the torch that is there.
    env_check torch >/dev/null || pip_install "torch==$TORCH" "torchvision==$TORCHVISION"
    "$PY" -I -c 'import torchvision' 2>/dev/null ||
        pip_install "torch==$("$PY" -I -c 'import torch; print(torch.__version__)')" torchvision
    locked_install -r "$ROOT/$LOCK"
    locked_install --no-build-isolation -e "$ROOT"
}

check() {
    local status=0
    env_check check || status=$?
    case "$status" in
    0) fingerprint >"$STAMP" && return ;;
    4) rm -f -- "$STAMP" ;;             # a package is broken: rebuild
    *) printf '%s\n%s\n' "$ROOT" "$LOCK" >"$STAMP" ;; # complete, but not checked
    esac
    die "the environment did not pass its checks (status $status); run bash tools/setup.sh again when that is fixed"
}

recheck=''
for arg in "$@"; do
    case "$arg" in
    --check) recheck=yes ;;
    --dev) LOCK=requirements-dev.lock ;;
    -h | --help) usage "${BASH_SOURCE[0]}" && exit ;;
    *) usage "${BASH_SOURCE[0]}" >&2 && die "unknown option: $arg" 2 ;;
    esac
done

BASE='' BASE_VERSION=''
[[ -z "${PYTHON:-}" ]] || choose_python
examine
if [[ "$STATE" != ready ]]; then
    if [[ -e "$VENV" && ! -e "$VENV/pyvenv.cfg" && -n "$(ls -A -- "$VENV")" ]]; then
        die "$VENV exists and is not a Python environment: move it away"
    fi
    # One set-up at a time; one that waited finds the work done.
    if command -v flock >/dev/null; then
        exec 9>"$ROOT/.venv.lock"
        flock -n 9 || { say "waiting for another set-up of this clone" && flock 9; }
        examine
    fi
fi
case "$STATE" in
update) say "updating .venv: $REASON" ;;
rebuild) build ;;
esac
if [[ "$STATE" != ready ]]; then install; fi
if [[ "$STATE" != ready || -n "$recheck" ]]; then check; fi
say "ready: $VENV ($("$PY" -V))"
