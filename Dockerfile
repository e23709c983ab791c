# HRI30 in a container: the environment of tools/setup.sh, as a user without privileges.
#
#   docker build -t hri30 .                                          for the CPU
#   docker build -t hri30 --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
#   docker run --rm -it -v "$PWD/data:/hri30/data" -v "$PWD/work_dirs:/hri30/work_dirs" hri30
#
# With CUDA, docker run needs --gpus all and --shm-size 8g; the driver is that of the host.
ARG PYTHON_VERSION=3.12
FROM python:${PYTHON_VERSION}-slim

# The index of torch's wheels for the CPU, or for a CUDA that pytorch.org names.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Of the user in the container; yours, so that results belong to you: --build-arg UID="$(id -u)"
ARG UID=1000

# git: which commit a result is of. libseccomp2: the decoding process cannot open sockets.
RUN apt-get update \
    && apt-get install -y --no-install-recommends git libseccomp2 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid "${UID}" hri30 \
    && install -d -o hri30 /hri30

USER hri30
WORKDIR /hri30
# What the environment is made from comes first: it is kept while only code changes.
COPY --chown=hri30 setup.cfg pyproject.toml requirements.lock requirements-dev.lock ./
COPY --chown=hri30 tools/setup.sh tools/_common.sh tools/
COPY --chown=hri30 hri30_ext hri30_ext
RUN PIP_EXTRA_INDEX_URL="${TORCH_INDEX}" PIP_NO_CACHE_DIR=1 bash tools/setup.sh
COPY --chown=hri30 . .

ENV PATH=/hri30/.venv/bin:$PATH
CMD ["bash"]
