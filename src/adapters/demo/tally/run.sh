# Runs every test: each file of this folder that is named test_*.sh.
cd "$(dirname "$0")/.." || exit 2
. ./tally.sh
failed=0

# is NAME EXPECTED COMMAND…: the command prints exactly this; `error` stands for a failure.
is() {
    name=$1 expected=$2
    shift 2
    actual=$("$@") || actual=error
    if [ "$actual" = "$expected" ]; then
        echo "ok - $name"
    else
        echo "not ok - $name: expected $expected, got $actual"
        failed=$((failed + 1))
    fi
}

# Adds up its arguments.
total_of() { printf '%s\n' "$@" | total; }

for test in tests/test_*.sh; do . "./$test"; done
[ "$failed" = 0 ] || echo "$failed failed"
[ "$failed" = 0 ]
