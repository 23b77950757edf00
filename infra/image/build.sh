#!/usr/bin/env bash
# Builds the image: infra/image/build.sh NAME [docker build's options]. What pip on this machine is told about a
# certificate authority and a local folder of wheels, the build is told too; neither stays in the image.
set -euo pipefail

cd "$(dirname "$0")/../.."
python=${PYTHON:-python3}
name=$1
shift

# The value of a pip option, from its configuration files or environment; the environment's comes last and wins.
pip_option() {
  local settings
  settings=$("$python" -m pip config list 2>/dev/null || true)
  { grep "^global\.$1=" <<<"$settings" || true; grep "^install\.$1=" <<<"$settings" || true
    grep "^:env:\.$1=" <<<"$settings" || true; } | tail -n 1 | cut -d= -f2- | tr -d \'
}

options=()
ca=$(pip_option cert)
if [[ -f $ca ]]; then options+=(--secret "id=pip-ca,src=$ca"); fi
wheels=$(pip_option find-links)
if [[ -d $wheels ]]; then options+=(--build-context "wheels=$wheels"); fi

version=$("$python" -c 'from headstart.version import __version__; print(__version__)')
revision=$(git describe --always --abbrev=40 --dirty --exclude='*' 2>/dev/null || echo unknown)

docker buildx build --load --tag "$name" \
  --build-arg VERSION="$version" --build-arg REVISION="$revision" "${options[@]}" "$@" .
docker image inspect --format '{{.Id}} {{index .RepoTags 0}} {{.Size}} bytes' "$name"
if [[ $(docker image inspect --format '{{index .Config.Labels "org.opencontainers.image.title"}}' "$name") == headstart ]]
then
  echo "next: headstart run RECIPE --runner docker --image $name"
  echo "      or for a cluster: make image-push IMAGE=$name REGISTRY=…, which prints the digest that headstart submit takes"
fi
