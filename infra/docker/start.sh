#!/bin/sh
# Starts the server with its words (`serve gateway`). STOA_ENVIRONMENT_FILE names a file of NAME=value lines, such as the one
# that `db setup` writes; what the environment has already stays as it is. The lines are read, not run: a password may hold
# any character.
set -eu
file=${STOA_ENVIRONMENT_FILE:-}
if [ -n "$file" ] && [ -r "$file" ]; then
  while IFS= read -r line || [ -n "$line" ]; do
    name=${line%%=*}
    case $name in
      '' | *[!A-Z0-9_]*) continue ;;
    esac
    eval "known=\${$name+yes}"
    [ "$known" = yes ] || export "$name=${line#*=}"
  done <"$file"
fi
exec node --max-semi-space-size=16 "${0%/*}/../../server/src/main.ts" "$@"
