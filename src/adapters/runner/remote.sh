# Runs on a host on behalf of Skep: /bin/sh receives it as one argument, so it must not contain a single quote. Standard input
# holds the request line by line, then its payload. No text from outside becomes a part of this script.
set -u
umask 077
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export PATH
fail() { printf "skep-fail %s\n" "$*" >&2; exit 9; }

IFS= read -r op && IFS= read -r dir && IFS= read -r owner && IFS= read -r session || fail "the request was truncated"
case $dir in /*) ;; *) dir=$HOME/$dir ;; esac
root=$dir/$owner
at=$root/$session

# Kills every process that inherited the mark, until none is left.
end_marked() {
    rounds=0
    while [ "$rounds" -lt 16 ]; do
        rounds=$((rounds + 1))
        found=
        for file in $(grep -lsF "SKEP_JOB=$1" /proc/[0-9]*/environ 2>/dev/null); do
            pid=${file#/proc/}
            kill -9 "${pid%/environ}" 2>/dev/null && found=1
        done
        [ -n "$found" ] || return 0
    done
}

remove() {
    end_marked "$owner.$1"
    chmod -R u+rwX "$root/$1" 2>/dev/null
    rm -rf "$root/$1" 2>/dev/null || { end_marked "$owner.$1"; rm -rf "$root/$1"; }
}

# Succeeds if no component of a path is a symbolic link.
has_no_link() {
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

# Runs a line in a session and process group of its own, without our file descriptors.
detach() { setsid /bin/sh -c "$1" <&4 >/dev/null 2>&1 3<&- 4<&- & }

case $op in
probe)
    missing=
    for tool in tar setsid base64 grep mkfifo chmod head df; do
        command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
    done
    [ -z "$missing" ] || fail "these programs are missing on the host:$missing"
    [ -r /proc/self/environ ] || fail "/proc is not available, so left-over processes cannot be found"
    mkdir -p "$root" || fail "cannot create the folder $dir"
    ;;
sweep)
    # Every session that is not live was left behind.
    IFS= read -r live || fail "the request was truncated"
    for left in "$root"/*; do
        [ -e "$left" ] || [ -L "$left" ] || continue
        name=${left##*/}
        case " $live " in *" $name "*) ;; *) remove "$name" ;; esac
    done
    case $owner in test-*) rmdir "$root" 2>/dev/null ;; esac
    ;;
open)
    mkdir -p "$root" && mkdir "$at" || fail "cannot create the folder $at"
    umask 022
    tar -xof - -C "$at" || fail "cannot unpack the checkout in $at"
    ;;
run)
    IFS= read -r timeout && IFS= read -r report && IFS= read -r line || fail "the request was truncated"
    cd "$at/tree" 2>/dev/null || fail "the checkout $at no longer exists"
    if [ -n "$report" ]; then
        has_no_link "$report" || fail "report leads through a symbolic link"
        [ ! -e "$report" ] || rm -f "./$report" || fail "report cannot be cleared"
    fi
    printf %s "$line" | base64 -d >"$at/line" || fail "cannot write to $at"
    rm -f "$at/out"
    mkfifo "$at/out" || fail "cannot write to $at"
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
            RUSTUP_HOME="$rustup" SHELL=/bin/sh LANG=C.UTF-8 TERM=dumb CI=true SKEP=1 \
            GIT_TERMINAL_PROMPT=0 PIP_DISABLE_PIP_VERSION_CHECK=1 \
            SKEP_JOB="$owner.$session" setsid /bin/sh "$at/line"
    ) <&4 >"$at/out" 2>&1 3<&- 4<&- &
    job=$!
    detach "sleep $timeout; kill -USR1 $$"
    timer=$!
    # Ends the check when the connection closes.
    setsid /bin/sh -c "cat >/dev/null; kill -TERM $$" <&3 >/dev/null 2>&1 3<&- 4<&- &
    line=$!
    wait "$job"
    code=$?
    trap "" USR1 TERM HUP INT PIPE
    kill -9 "-$job" "-$timer" "-$line" 2>/dev/null
    end_marked "$owner.$session"
    # Forwards the remaining output, without waiting for a process that still holds the pipe.
    detach "sleep 2; kill -9 $out"
    timer=$!
    wait "$out"
    kill -9 "-$timer" 2>/dev/null
    case $why in
        lost) remove "$session"; exit 9 ;;
        time) code=time ;;
    esac
    if [ "$code" != 0 ]; then
        left=$(df -Pk "$at" 2>/dev/null | tail -n 1 | { IFS=" " read -r _ _ _ free _; printf %s "${free:-1024}"; })
        [ "$left" -ge 1024 ] 2>/dev/null || fail "the disk of the host is full"
    fi
    printf "skep-end %s\n" "$code" >&2
    exit 0
    ;;
fetch)
    IFS= read -r report && IFS= read -r max_bytes || fail "the request was truncated"
    cd "$at/tree" 2>/dev/null || fail "the checkout $at no longer exists"
    has_no_link "$report" || fail "report is behind a symbolic link"
    [ -e "$report" ] || fail "report missing"
    [ -f "$report" ] || fail "report is not a regular file"
    head -c "$max_bytes" "./$report" || fail "report cannot be read"
    ;;
*) fail "unknown request $op" ;;
esac
printf "skep-end 0\n" >&2
