# What Skep does on a host: run there by /bin/sh as one argument, so that there is no single quote in here. Standard input has
# the order line by line, then what belongs to it; no text from outside becomes a part of this script.
set -u
umask 077
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export PATH
fail() { printf "skep-fail %s\n" "$*" >&2; exit 9; }

IFS= read -r op && IFS= read -r dir && IFS= read -r house && IFS= read -r session || fail "the order came cut"
case $dir in /*) ;; *) dir=$HOME/$dir ;; esac
root=$dir/$house
at=$root/$session

# Ends every process that inherited the mark, until there is none.
end_marked() {
    looks=0
    while [ "$looks" -lt 16 ]; do
        looks=$((looks + 1))
        found=
        for file in $(grep -lsF "SKEP_JOB=$1" /proc/[0-9]*/environ 2>/dev/null); do
            pid=${file#/proc/}
            kill -9 "${pid%/environ}" 2>/dev/null && found=1
        done
        [ -n "$found" ] || return 0
    done
}

remove() {
    end_marked "$house.$1"
    chmod -R u+rwX "$root/$1" 2>/dev/null
    rm -rf "$root/$1" 2>/dev/null || { end_marked "$house.$1"; rm -rf "$root/$1"; }
}

# Whether no part of a path is a link.
plain() {
    part=
    rest=$1
    while [ -n "$rest" ]; do
        part=$part${rest%%/*}
        [ ! -L "$part" ] || return 1
        case $rest in
            */*) rest=${rest#*/} part=$part/ ;;
            *) rest= ;;
        esac
    done
}

# In a session and group of its own, holding nothing of ours.
aside() { setsid /bin/sh -c "$1" <&4 >/dev/null 2>&1 3<&- 4<&- & }

case $op in
probe)
    missing=
    for tool in tar setsid base64 grep mkfifo chmod head df; do
        command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
    done
    [ -z "$missing" ] || fail "these programs are missing there:$missing"
    [ -r /proc/self/environ ] || fail "there is no /proc, by which left processes are found"
    mkdir -p "$root" || fail "the folder $dir cannot be made"
    ;;
sweep)
    # Whatever is here and does not go on was left behind.
    IFS= read -r live || fail "the order came cut"
    for left in "$root"/*; do
        [ -e "$left" ] || [ -L "$left" ] || continue
        name=${left##*/}
        case " $live " in *" $name "*) ;; *) remove "$name" ;; esac
    done
    case $house in test-*) rmdir "$root" 2>/dev/null ;; esac
    ;;
open)
    mkdir -p "$root" && mkdir "$at" || fail "the folder $at cannot be made"
    umask 022
    tar -xof - -C "$at" || fail "the checkout cannot be unpacked in $at"
    ;;
run)
    IFS= read -r limit && IFS= read -r report && IFS= read -r line || fail "the order came cut"
    cd "$at/tree" 2>/dev/null || fail "the checkout $at is gone"
    if [ -n "$report" ]; then
        plain "$report" || fail "report leads through a symbolic link"
        [ ! -e "$report" ] || rm -f "./$report" || fail "report cannot be removed"
    fi
    printf %s "$line" | base64 -d >"$at/line" || fail "$at cannot be written"
    rm -f "$at/out"
    mkfifo "$at/out" || fail "$at cannot be written"
    rustup=${RUSTUP_HOME:-$HOME/.rustup}
    path=$PATH
    for more in "$HOME/.cargo/bin" "$HOME/.local/bin"; do
        [ ! -d "$more" ] || path=$path:$more
    done
    why=
    trap "why=time" USR1
    trap "why=lost" TERM HUP INT PIPE
    exec 3<&0 4</dev/null
    cat <"$at/out" 3<&- 4<&- &
    out=$!
    (
        umask 022
        exec env -i HOME="$at/home" TMPDIR="$at/tmp" PATH="$path" USER="${USER:-skep}" LOGNAME="${USER:-skep}" \
            RUSTUP_HOME="$rustup" SHELL=/bin/sh LANG=C.UTF-8 TERM=dumb CI=true SKEP=1 NO_COLOR=1 CARGO_TERM_COLOR=never \
            GIT_TERMINAL_PROMPT=0 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONDONTWRITEBYTECODE=1 \
            SKEP_JOB="$house.$session" setsid /bin/sh "$at/line"
    ) <&4 >"$at/out" 2>&1 3<&- 4<&- &
    job=$!
    aside "sleep $limit; kill -USR1 $$"
    timer=$!
    # It ends when whoever gave this order is gone.
    setsid /bin/sh -c "cat >/dev/null; kill -TERM $$" <&3 >/dev/null 2>&1 3<&- 4<&- &
    line=$!
    wait "$job"
    code=$?
    trap "" USR1 TERM HUP INT PIPE
    kill -9 "-$job" "-$timer" "-$line" 2>/dev/null
    end_marked "$house.$session"
    # What was printed is given on; whoever still holds the pipe is not waited for.
    aside "sleep 2; kill -9 $out"
    timer=$!
    wait "$out"
    kill -9 "-$timer" 2>/dev/null
    case $why in
        lost) remove "$session"; exit 9 ;;
        time) code=time ;;
    esac
    if [ "$code" != 0 ]; then
        left=$(df -Pk "$at" 2>/dev/null | tail -n 1 | { IFS=" " read -r _ _ _ free _; printf %s "${free:-1024}"; })
        [ "$left" -ge 1024 ] 2>/dev/null || fail "the disk is full there"
    fi
    printf "skep-end %s\n" "$code" >&2
    exit 0
    ;;
fetch)
    IFS= read -r report && IFS= read -r most || fail "the order came cut"
    cd "$at/tree" 2>/dev/null || fail "the checkout $at is gone"
    plain "$report" || fail "report leads through a symbolic link"
    [ -e "$report" ] || fail "report missing"
    [ -f "$report" ] || fail "report is not a regular file"
    head -c "$most" "./$report" || fail "report cannot be read"
    ;;
*) fail "there is no such order" ;;
esac
printf "skep-end 0\n" >&2
