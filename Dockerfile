# The image that every pipeline step runs in. Built by `make image`; needs BuildKit (docker-buildx).
#
#   VARIANT     cpu (default), or cuda for GPUs: torch with NVIDIA's libraries, several GB
#   BASE_IMAGE  Debian with the Python that infra/constraints*.txt were resolved for. For a published image pin it by
#               digest: python:3.11-slim@sha256:…. Where no registry is at hand, infra/image/test-base.sh makes one.

ARG BASE_IMAGE=python:3.11-slim

# Wheels of torch for CPUs that are taken instead of those in PyTorch's index: none, unless the build is given
# --build-context wheels=FOLDER.
FROM scratch AS wheels

FROM ${BASE_IMAGE} AS dependencies
ARG VARIANT=cpu
# Mirrors, where those of Python and PyTorch cannot be reached; the digests are the same whatever the place.
ARG PIP_INDEX_URL
ARG TORCH_CPU_INDEX_URL=https://download.pytorch.org/whl/cpu
ARG PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

# The dependencies are a layer of their own that a change of the source leaves alone. Only what has a digest in the
# constraints is installed: a file that was tampered with ends the build. A CA that only this build needs comes as the
# secret pip-ca.
RUN --mount=type=secret,id=pip-ca \
    --mount=type=bind,from=wheels,target=/run/wheels \
    --mount=type=bind,source=infra/constraints.txt,target=/run/locks/constraints.txt \
    --mount=type=bind,source=infra/constraints-source.txt,target=/run/locks/constraints-source.txt \
    --mount=type=bind,source=infra/constraints-cpu.txt,target=/run/locks/constraints-cpu.txt \
    --mount=type=bind,source=infra/constraints-cuda.txt,target=/run/locks/constraints-cuda.txt <<SCRIPT
set -eu
if [ -s /run/secrets/pip-ca ]; then export PIP_CERT=/run/secrets/pip-ca; fi
python3 -m venv --without-pip /opt/headstart
install="python3 -m pip --python /opt/headstart/bin/python3 install --require-hashes --no-deps --no-compile"
$install --only-binary :all: -r /run/locks/constraints.txt
$install --no-build-isolation -r /run/locks/constraints-source.txt
case $VARIANT in
  cuda) from= ;;
  cpu)
    from="--index-url $TORCH_CPU_INDEX_URL"
    for wheel in /run/wheels/torch-*+cpu-*.whl; do
      if [ -e "$wheel" ]; then from="--no-index --find-links /run/wheels"; fi
    done ;;
  *) echo "VARIANT is $VARIANT; it must be cpu or cuda" >&2; exit 1 ;;
esac
$install --only-binary :all: $from -r /run/locks/constraints-$VARIANT.txt
python3 -m pip --python /opt/headstart/bin/python3 check

# What only a compiler or the packages' own tests would read. numpy and torch import parts of theirs.
packages=$(/opt/headstart/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
cd "$packages"
rm -rf torch/include pyarrow/include
find torch/bin -type f ! -name torch_shm_manager -delete
find . -type d -name tests ! -path './numpy/*' ! -path './torch/*' -prune -exec rm -rf {} +
# Nobody can write beside the sources later. Valid whatever a copy makes of their times. Some packages hold files for
# other versions of Python, which do not compile.
/opt/headstart/bin/python3 -m compileall -q -j 0 --invalidation-mode unchecked-hash . >/dev/null || true
SCRIPT

# The project itself, in the place that it will have and nothing else: some MB, copied on top of the dependencies. Built
# from a copy in /tmp, because setuptools writes into the folder that it builds.
FROM dependencies AS project
RUN --mount=type=bind,target=/run/source <<SCRIPT
set -eu
cp -r /run/source /tmp/source
python3 -m pip --python /opt/headstart/bin/python3 install --no-deps --no-index --no-build-isolation --no-compile \
  --root /project /tmp/source
rm /project/opt/headstart/lib/python3*/site-packages/headstart-*.dist-info/direct_url.json
python3 -m compileall -q --invalidation-mode unchecked-hash -s /project -p / /project
SCRIPT

FROM ${BASE_IMAGE}

# The user is a number, so that Kubernetes can verify that it is not root; any other works too. Nothing is installed at
# run time, so what could do that goes.
RUN <<SCRIPT
set -eu
useradd --uid 10001 --user-group --no-create-home --home-dir /tmp --shell /usr/sbin/nologin headstart
install -d -o headstart -g headstart /work
python3 -m pip uninstall --quiet --yes --root-user-action ignore pip setuptools wheel
python3 -c 'import ensurepip, shutil; shutil.rmtree(ensurepip.__path__[0])'
rm -rf /root/.cache
# Login shells set a PATH of their own; the nodes of a TrainJob are started by one.
echo 'PATH=/opt/headstart/bin:$PATH' >/etc/profile.d/headstart.sh
SCRIPT

COPY --from=dependencies /opt/headstart /opt/headstart
COPY --from=project /project/opt/headstart /opt/headstart

# The root file system may be mounted read-only: what libraries cache goes below HOME, and /tmp is the one place that
# must be writable. A step's log is seen line by line. Of an NVIDIA driver the image uses what computes.
ENV PATH=/opt/headstart/bin:$PATH \
    HOME=/tmp \
    PYTHONUNBUFFERED=1 \
    MLFLOW_DISABLE_TELEMETRY=true \
    GIT_PYTHON_REFRESH=quiet \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER 10001:10001
WORKDIR /work
CMD ["headstart", "--help"]

# A step ends, and its exit status is its health; a HEALTHCHECK beside it would load torch again and again, on the cores
# that train. `docker run --rm IMAGE headstart check` tells whether the image works where it is.

ARG VARIANT=cpu VERSION=0 REVISION=unknown
LABEL org.opencontainers.image.title="headstart" \
      org.opencontainers.image.description="Transfer learning as a system: what its pipeline steps run in" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      headstart.variant="${VARIANT}"
