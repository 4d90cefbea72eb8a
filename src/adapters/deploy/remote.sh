# Runs on the host of a deployment on behalf of Skep: /bin/sh receives it as one argument, so it must not contain a single
# quote. Standard input holds the request line by line, then its payload. No text from outside becomes a part of this
# script. Every request may be repeated.
set -u
umask 077
PATH=${PATH:-/usr/local/bin:/usr/bin:/bin}
export PATH
# What the host lacks is named as "lacks PROGRAM": trying again does not help.
fail() { printf "skep-fail %s\n" "$*" >&2; exit 9; }

IFS= read -r op && IFS= read -r dir && IFS= read -r target && IFS= read -r key && IFS= read -r limit &&
    IFS= read -r sha || fail "the request was truncated"
case $dir in /*) ;; *) dir=$HOME/$dir ;; esac
root=$dir/deploy/$target
at=$root/releases/$sha

# Locks the target for this Skep. A lock of another one counts for twice the limit. An earlier request of this Skep, which
# may have been killed, ends first.
lock() {
    mkdir -p "$root/releases" || fail "cannot create the folder $root"
    waited=0
    while ! mkdir "$root/lock" 2>/dev/null; do
        since=$(cat "$root/lock/since" 2>/dev/null)
        pid=$(cat "$root/lock/pid" 2>/dev/null)
        if [ "$(cat "$root/lock/key" 2>/dev/null)" = "$key" ]; then
            [ -n "$pid" ] && [ "$pid" != "$$" ] && grep -qs skep-fail "/proc/$pid/cmdline" || break
            [ "$waited" -lt "$limit" ] || fail "an earlier request does not end"
        elif [ "$waited" -ge 5 ] && [ "$(($(date +%s) - ${since:-0}))" -gt "$((limit * 2))" ]; then
            mv "$root/lock" "$root/lock.$$" 2>/dev/null && rm -rf "$root/lock.$$"
        elif [ "$waited" -ge 10 ]; then
            fail "another Skep is deploying to this target"
        fi
        sleep 1
        waited=$((waited + 1))
    done
    printf "%s\n" "$key" >"$root/lock/key" && printf "%s\n" "$$" >"$root/lock/pid" &&
        date +%s >"$root/lock/since" || fail "cannot write to $root"
}

# Reads the environment of the commands.
environment() {
    IFS= read -r count || fail "the request was truncated"
    while [ "$count" -gt 0 ]; do
        IFS=" " read -r name value || fail "the request was truncated"
        value=$(printf %s "$value" | base64 -d && printf x) || fail "lacks base64"
        export "$name=${value%x}"
        count=$((count - 1))
    done
}

compose_request() {
    IFS= read -r project && IFS= read -r file || fail "the request was truncated"
    environment
    [ -e "$at/.done" ] || fail "the release $sha is not on the host"
    cd "$at/tree" || fail "the release $sha is not on the host"
    docker compose version >/dev/null 2>&1 </dev/null || fail "lacks docker compose"
}

compose() { timeout -k 5 "$limit" docker compose -p "$project" --project-directory "$at/tree" -f "$at/tree/$file" "$@" </dev/null; }

end=0
case $op in
send)
    lock
    if [ -e "$at/.done" ]; then
        cat >/dev/null
    else
        rm -rf "$at"
        mkdir "$at" || fail "cannot create the folder $at"
        (umask 022 && tar -xof - -C "$at") || fail "cannot unpack the files in $at"
        : >"$at/.done" || fail "cannot write to $at"
    fi
    ;;
config)
    lock
    compose_request
    pwd -P
    compose config --format json
    end=$?
    ;;
up)
    lock
    compose_request
    {
        compose pull --quiet --ignore-buildable &&
            compose up -d --build --wait --wait-timeout "$limit" --remove-orphans
    } 2>&1
    end=$?
    ;;
ps)
    compose_request
    compose ps -a --format json
    end=$?
    ;;
logs)
    IFS= read -r service || fail "the request was truncated"
    compose_request
    compose logs --no-color --no-log-prefix --tail 100 -- "$service" 2>&1
    end=$?
    ;;
command)
    lock
    IFS= read -r line || fail "the request was truncated"
    environment
    [ -e "$at/.done" ] && cd "$at/tree" || fail "the release $sha is not on the host"
    line=$(printf %s "$line" | base64 -d) || fail "lacks base64"
    timeout -k 5 "$limit" /bin/sh -c "$line" </dev/null 2>&1
    end=$?
    ;;
finish)
    lock
    IFS= read -r keep && IFS= read -r keep_sha || fail "the request was truncated"
    touch "$at" && ln -sfn "releases/$sha" "$root/next" && mv -T "$root/next" "$root/current" ||
        fail "cannot write to $root"
    count=0
    for name in $(ls -1t "$root/releases"); do
        count=$((count + 1))
        case $name in "$sha" | "$keep_sha") continue ;; esac
        [ "$count" -le "$keep" ] || rm -rf "$root/releases/$name"
    done
    ;;
unlock)
    [ "$(cat "$root/lock/key" 2>/dev/null)" != "$key" ] || rm -rf "$root/lock"
    ;;
*) fail "unknown request $op" ;;
esac
printf "skep-end %s\n" "$end" >&2
exit 0
