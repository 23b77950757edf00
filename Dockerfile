# The image that every pipeline step runs in. Built by `make image`; needs BuildKit (docker-buildx).

# For a published image pin the base by digest: --build-arg BASE_IMAGE=python:3.11-slim@sha256:…
# Where no registry is at hand, infra/image/test-base.sh makes one.
ARG BASE_IMAGE=python:3.11-slim

# Wheels that pip may use beside its index: none, unless the build is given --build-context wheels=FOLDER.
FROM scratch AS wheels

FROM ${BASE_IMAGE}

# The user is a number, so that Kubernetes can verify that it is not root; any other works too.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin headstart \
    && install -d -o headstart -g headstart /work

# PyPI's torch for Linux carries CUDA (several GB). For CPUs alone:
# --build-arg PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_EXTRA_INDEX_URL
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

# The dependencies are a layer of their own that a change of the source leaves alone. A CA that only this build needs
# comes as the secret pip-ca, so that it does not stay in the image. pip byte-compiles what it installs: nobody can
# write next to it later. The extra trainjob is what a step starts a training on several nodes with.
RUN --mount=type=secret,id=pip-ca \
    --mount=type=bind,from=wheels,target=/run/wheels \
    --mount=type=bind,source=pyproject.toml,target=/run/build/pyproject.toml \
    --mount=type=bind,source=infra/constraints.txt,target=/run/build/constraints.txt \
    if [ -s /run/secrets/pip-ca ]; then export PIP_CERT=/run/secrets/pip-ca; fi; \
    python3 -c 'import tomllib; project = tomllib.load(open("/run/build/pyproject.toml", "rb"))["project"]; \
      print(*project["dependencies"], *project["optional-dependencies"]["trainjob"], sep="\n")' \
      > /tmp/requirements.txt \
    && python3 -m pip install --find-links /run/wheels -c /run/build/constraints.txt -r /tmp/requirements.txt \
    && rm /tmp/requirements.txt

# Built from a copy in /tmp, because setuptools writes into the folder that it builds. setuptools is there already:
# torch depends on it.
RUN --mount=type=bind,target=/run/source \
    cp -r /run/source /tmp/source \
    && python3 -m pip install --no-deps --no-index --no-build-isolation /tmp/source \
    && rm -r /tmp/source

# The root file system may be mounted read-only: what libraries cache goes below HOME, and /tmp is the one place that
# must be writable. A step's log is seen line by line.
ENV HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet
USER 10001:10001
WORKDIR /work
CMD ["headstart", "--help"]

ARG VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="headstart" \
      org.opencontainers.image.description="Transfer learning as a system: what its pipeline steps run in" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
