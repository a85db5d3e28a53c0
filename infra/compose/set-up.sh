#!/bin/sh
# Makes the logins once. The URLs hold their passwords and are written once, so a second run must not make new ones.
set -eu
file=/run/stoa/database-urls.env
if [ -s "$file" ]; then
  echo "The logins' URLs are in the volume already."
  exit 0
fi
exec node /srv/stoa/server/src/main.ts db setup --admin-url "$STOA_ADMIN_DATABASE_URL" --output "$file"
