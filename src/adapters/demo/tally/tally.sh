# Adds up amounts of money written as text, in whole cents.

# Prints digits without leading zeros, which arithmetic takes for octal.
decimal() {
    digits=$1
    while [ "${#digits}" -gt 1 ] && [ "${digits#0}" != "$digits" ]; do digits=${digits#0}; done
    echo "$digits"
}

is_number() {
    case $1 in '' | *[!0-9]*) return 1 ;; esac
}

# Prints an amount like 12.34 in cents; fails if it is not one.
cents() {
    case $1 in
        *.*) whole=${1%%.*} fraction=${1#*.} ;;
        *) whole=$1 fraction=0 ;;
    esac
    is_number "${whole#-}" && is_number "$fraction" || return 1
    fraction=$(decimal "$fraction")
    echo $((whole * 100 + fraction))
}

# Adds up a list, one amount a line; empty lines are skipped.
total() {
    sum=0
    while read -r line; do
        [ -n "$line" ] || continue
        amount=$(cents "$line") || return 1
        sum=$((sum + amount))
    done
    echo "$sum"
}
