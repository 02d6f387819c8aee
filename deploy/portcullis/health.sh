#!/usr/bin/env bash
# Asks the admin endpoint for a path, /ready when none is given; fails unless the answer is 200. The image has bash and no curl.
set -euo pipefail
path=${1:-/ready}
address=${PORTCULLIS_HEALTH_ADDRESS:-127.0.0.1:9464}
exec 3<>"/dev/tcp/${address%:*}/${address##*:}"
printf 'GET %s HTTP/1.1\r\nHost: portcullis\r\nConnection: close\r\n\r\n' "$path" >&3
answer=$(timeout 4 cat <&3)
printf '%s\n' "$answer" | tail -n +2 | sed '1,/^\r*$/d'
[[ $answer == "HTTP/1.1 200 "* ]]
