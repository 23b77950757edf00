#!/usr/bin/env bash
# Makes the passwords of the local cluster, once: infra/overlays/local/secrets/*.env, readable by their owner only and
# ignored by git. What exists is kept.
set -euo pipefail
cd "$(dirname "$0")/secrets"
umask 077
for example in *.env.example; do
  file=${example%.example}
  if [[ -e $file ]]; then continue; fi
  while IFS= read -r line; do
    if [[ $line == *=random ]]; then line=${line%random}$(openssl rand -hex 24); fi
    printf '%s\n' "$line"
  done <"$example" >"$file.part"
  mv "$file.part" "$file"
  echo "made ${PWD##*/}/$file"
done
