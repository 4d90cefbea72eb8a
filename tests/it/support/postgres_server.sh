#!/bin/sh
# A temporary PostgreSQL server that ends by itself: `postgres_server.sh USERS MUTEX STATE`.
#
# Prints its URL, or "failed: why", on its first line. Every test process holds a shared lock on USERS. When no process
# holds one and none is starting (MUTEX), the server is stopped and its folder removed. A killed test process loses its
# lock as well, so nothing is left behind.
set -u
users=$1 mutex=$2 state=$3
fail() { echo "failed: $*"; exit 1; }

for bin in /usr/lib/postgresql/*/bin; do [ -d "$bin" ] && PATH="$PATH:$bin"; done
install='install it (Debian: apt-get install postgresql; or set SKEP_TEST_DATABASE_URL to a server of yours)'
command -v initdb >/dev/null && command -v postgres >/dev/null || fail "initdb and postgres were not found; $install"

dir=$(mktemp -d "${TMPDIR:-/tmp}/skep-test-postgres.XXXXXX") || fail "no temporary folder could be made"
as=
if [ "$(id -u)" = 0 ]; then
    # PostgreSQL refuses to run as root.
    user=postgres; id postgres >/dev/null 2>&1 || user=nobody
    command -v setpriv >/dev/null || fail "setpriv was not found; run the tests as another user than root, or install util-linux"
    chown "$user" "$dir"
    as="setpriv --reuid=$user --regid=$(id -g "$user") --clear-groups"
fi
cd "$dir" || fail "$dir cannot be entered"
$as initdb -D "$dir/data" -U skep -A trust -E UTF8 --locale=C.UTF-8 >"$dir/log" 2>&1 || fail "initdb: $(tail -n 3 "$dir/log" | tr '\n' ' ')"
# Keep the durability settings of production: the store refuses a server without them.
$as postgres -D "$dir/data" -k "$dir" -c listen_addresses= -c max_connections=300 >>"$dir/log" 2>&1 &
server=$!
url="postgres://skep@localhost/postgres?host=$dir"
tries=0
until $as pg_isready -q -h "$dir" -U skep; do
    tries=$((tries + 1))
    [ "$tries" -lt 300 ] && kill -0 "$server" 2>/dev/null || fail "postgres: $(tail -n 3 "$dir/log" | tr '\n' ' ')"
    sleep 0.1
done
echo "$url" >"$state"
echo "$url"
exec >/dev/null 2>&1

exec 8>>"$users" 9>>"$mutex"
while kill -0 "$server" 2>/dev/null; do
    sleep 5
    if flock -n -x 8; then
        flock -n -x 9 && break
        flock -u 8
    fi
done
rm -f "$state"
kill -INT "$server" 2>/dev/null
wait "$server"
rm -rf "$dir"
