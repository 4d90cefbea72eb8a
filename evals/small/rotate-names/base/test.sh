#!/bin/sh
set -e
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
echo one > log
sh "$here/rotate.sh" log 2
echo two > log
sh "$here/rotate.sh" log 2
[ "$(cat log.1)" = two ]
[ "$(cat log.2)" = one ]
[ -f log ]
echo "1 passed"
