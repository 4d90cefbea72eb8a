
# Prints cents as an amount: 1300 is 13.00.
show() {
    printf '%s%d.%02d\n' "$([ "$1" -lt 0 ] && echo -)" $((${1#-} / 100)) $((${1#-} % 100))
}
