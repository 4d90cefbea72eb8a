#!/bin/sh
# Reports the result of a CI job to Skep, for the branch of a run. Needs only curl.
#
#   SKEP_URL=https://skep.example.org SKEP_TOKEN=… ./report.sh success|failure|pending [CONTEXT]
#
# The branch and the commit come from the CI's own variables (GitHub Actions, GitLab CI, Forgejo and Gitea Actions,
# Jenkins), or from CI_BRANCH and CI_SHA. CI_URL is the address of the job, if it is not found either.
# Exits with 0 if Skep has taken the result, or if the branch belongs to no run; else with 1. Usage errors exit with 2.
set -eu

fail() { printf 'report.sh: %s\n' "$*" >&2; exit "${code:-1}"; }

code=2
state=${1:-}
context=${2:-ci}
case $state in success | failure | pending) ;; *) fail "usage: report.sh success|failure|pending [CONTEXT]" ;; esac
[ -n "${SKEP_URL:-}" ] || fail "SKEP_URL is not set: the address of the Skep service"
[ -n "${SKEP_TOKEN:-}" ] || fail "SKEP_TOKEN is not set: store it as a secret of the CI"

branch=${CI_BRANCH:-${GITHUB_HEAD_REF:-${GITHUB_REF_NAME:-${CI_COMMIT_REF_NAME:-${CHANGE_BRANCH:-${BRANCH_NAME:-${GIT_BRANCH:-}}}}}}}
branch=${branch#origin/}
sha=${CI_SHA:-${GITHUB_SHA:-${CI_COMMIT_SHA:-${GIT_COMMIT:-}}}}
url=${CI_URL:-${CI_JOB_URL:-${BUILD_URL:-}}}
if [ -z "$url" ] && [ -n "${GITHUB_RUN_ID:-}" ]; then
    url=${GITHUB_SERVER_URL:-https://github.com}/${GITHUB_REPOSITORY:-}/actions/runs/$GITHUB_RUN_ID
fi
[ -n "$branch" ] || fail "the branch is unknown: set CI_BRANCH"
[ -n "$sha" ] || fail "the commit is unknown: set CI_SHA"

# Nothing that needs escaping in JSON is accepted, because sh has no safe way to escape it.
for value in "$branch" "$sha" "$context" "$url"; do
    case $value in *[!A-Za-z0-9._~:/?#@=%+,\&\ -]*) fail "this is not a plain value: $value" ;; esac
done

code=1
body="{\"branch\":\"$branch\",\"sha\":\"$sha\",\"context\":\"$context\",\"state\":\"$state\""
[ -z "$url" ] || body="$body,\"url\":\"$url\""
body="$body}"

# The token goes through standard input, so that no list of processes shows it.
answer=$(printf 'header = "Authorization: Bearer %s"\n' "$SKEP_TOKEN" |
    curl --silent --show-error --config - --retry 3 --max-time 60 --write-out '\n%{http_code}' \
        --header 'Content-Type: application/json' --data "$body" "${SKEP_URL%/}/api/v1/ci") ||
    fail "Skep does not answer at $SKEP_URL"
status=$(printf '%s' "$answer" | tail -n 1)
case $status in
    200) printf '%s\n' "reported $state for $branch" ;;
    404) printf '%s\n' "the branch $branch belongs to no run of Skep; nothing was reported" ;;
    *) fail "Skep answered $status: $(printf '%s' "$answer" | sed '$d' | cut -c 1-500)" ;;
esac
