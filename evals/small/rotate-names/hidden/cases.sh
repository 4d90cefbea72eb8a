#!/bin/sh
# skep-canary 4cbfc632-d94c-5f24-9e7c-e3d837e1652e
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 1
passed=0
ok() {
  if [ "$2" = "$3" ]; then passed=$((passed + 1)); else echo "$1: '$2' instead of '$3'"; exit 1; fi
}
rotate() { sh "$here/rotate.sh" "$@" > out 2>&1; }

echo one > 'my log'
rotate 'my log' 3
ok 'names with blanks' "$(cat 'my log.1')" one
echo x > '*'
echo y > other
rotate '*' 2
ok 'names with wildcards' "$(cat '*.1') $(cat other)" 'x y'
echo z > -f
rotate -f 2
ok 'names with a hyphen' "$(cat ./-f.1)" z
for n in 1 2 3 4; do echo "$n" > log; rotate log 2; done
ok 'only COUNT files are kept' "$(cat log.1 log.2 | tr '\n' ' ')$(ls log.3 2>/dev/null)" '4 3 '
: > log
rotate log 2
ok 'an empty file is not rotated' "$(cat log.1)" 4
rotate missing 2
ok 'a missing file is not an error' "$? $(ls missing* 2>/dev/null)" '0 '
for count in 0 -1 x ''; do rotate log "$count"; ok "COUNT $count" "$?" 2; done
rotate log
ok 'too few arguments' "$?" 2
echo "$passed passed"
