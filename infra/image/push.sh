#!/usr/bin/env bash
# Pushes an image and prints its name with the digest that the registry gave it, which is what a cluster should run:
# infra/image/push.sh NAME REGISTRY
set -euo pipefail

name=${1:?the image}
registry=${2:?the registry, for example ghcr.io/you: make image-push REGISTRY=…}
remote=$registry/${name##*/}

docker tag "$name" "$remote"
docker push --quiet "$remote" >&2
repository=${remote%:*}
if [[ $repository == "$registry" ]]; then repository=$remote; fi
# Of all places that hold it, the one that it was pushed to.
digest=$(docker image inspect --format '{{range .RepoDigests}}{{println .}}{{end}}' "$remote" | grep -F "$repository@" | head -n 1)
echo "$digest"
echo "next: headstart submit RECIPE --host URL --image $digest" >&2
