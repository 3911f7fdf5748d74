#!/bin/sh
# Valkey without persistence: everything that matters is in PostgreSQL. The password comes by stdin, so that no
# list of processes shows it. "noeviction": the broker must not drop queued work to make room.
set -eu
printf 'requirepass %s\n' "$(cat /run/secrets/valkey_password)" |
    exec valkey-server - --save '' --appendonly no --maxmemory-policy noeviction --dir /tmp
