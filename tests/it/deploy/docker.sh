#!/bin/sh
# Stands in for docker on the host of a deployment. `docker compose config` prints the compose file, which tests write as
# JSON; `up` "starts" the application by writing its version and mode into the folder $FAKE_HOST, where a server of the test
# reads them.
echo "$*" >>"$FAKE_HOST/calls"
[ "$1" = compose ] || exit 1
shift
dir=
file=
while :; do
    case $1 in
    -p) shift 2 ;;
    --project-directory) dir=$2; shift 2 ;;
    -f) file=$2; shift 2 ;;
    *) break ;;
    esac
done
case $1 in
version) exit 0 ;;
config) [ "$2" = --format ] && cat "$file" ;;
pull) exit 0 ;;
up)
    mode=$(cat "$dir/mode")
    printf "%s %s" "$SKEP_SHA" "$mode" >"$FAKE_HOST/running.new"
    mv "$FAKE_HOST/running.new" "$FAKE_HOST/running"
    printf "%s" "$DB_PASSWORD" >"$FAKE_HOST/password"
    [ "$mode" != unhealthy ] || { echo "container web is unhealthy"; exit 1; }
    ;;
ps)
    case $(cat "$dir/mode") in
    unhealthy) echo "{\"Service\":\"web\",\"State\":\"running\",\"Health\":\"unhealthy\",\"ExitCode\":0}" ;;
    *) echo "{\"Service\":\"web\",\"State\":\"running\",\"Health\":\"healthy\",\"ExitCode\":0}" ;;
    esac
    ;;
logs) echo "boom: cannot open the database with $DB_PASSWORD" ;;
*) exit 1 ;;
esac
