#!/bin/sh
# What infra/ uses of the official image's entrypoint: POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB, PGDATA, and the SQL in
# /docker-entrypoint-initdb.d on an empty volume, while only the socket is listened on. Not root, it changes no owner.
set -eu
data=${PGDATA:-/var/lib/postgresql/data}
if [ "$(id -u)" = 0 ]; then
  chown postgres:postgres "$data" /run/postgresql
  exec setpriv --reuid postgres --regid postgres --clear-groups "$0" "$@"
fi
if [ ! -s "$data/PG_VERSION" ]; then
  (umask 077; printf %s "$POSTGRES_PASSWORD" >/tmp/password)
  initdb --pgdata "$data" --username "$POSTGRES_USER" --pwfile /tmp/password --auth-local trust --auth-host scram-sha-256
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
  pg_ctl --pgdata "$data" --wait -o "-c listen_addresses=''" start
  createdb -U "$POSTGRES_USER" "$POSTGRES_DB"
  for file in /docker-entrypoint-initdb.d/*.sql; do
    [ -e "$file" ] || continue
    psql -U "$POSTGRES_USER" -d "$POSTGRES_DB" -v ON_ERROR_STOP=1 -f "$file"
  done
  pg_ctl --pgdata "$data" --wait -m fast stop
fi
exec postgres -D "$data" -c listen_addresses='*'
