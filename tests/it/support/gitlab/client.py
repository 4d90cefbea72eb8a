"""Drives the double of GitLab with python-gitlab, a client that others wrote. Prints what it saw, as JSON.

Arguments: the address, the token, the project, a branch with a commit, and the number of a failed job at its head.
"""

import json
import sys

import gitlab

url, token, path, branch, job = sys.argv[1:]
gl = gitlab.Gitlab(url, oauth_token=token)
gl.auth()
project = gl.projects.get(path)
head = project.branches.get(branch).commit["id"]
seen = {"login": gl.user.username, "project": project.path_with_namespace, "head": head}
seen["scopes"] = gl.personal_access_tokens.get("self").scopes
seen["levels"] = {m.username: m.access_level for m in project.members_all.list(query="ann", get_all=True)}

merge_request = project.mergerequests.create(
    {"source_branch": branch, "target_branch": "main", "title": "Draft: By a client", "description": "Because."}
)
try:
    project.mergerequests.create({"source_branch": branch, "target_branch": "main", "title": "Again"})
except gitlab.exceptions.GitlabCreateError as error:
    seen["second"] = error.response_code
merge_request.title = "By a client"
merge_request.save()
listed = project.mergerequests.list(state="all", source_branch=branch, get_all=True)
seen["listed"] = [(one.iid, one.title, one.state) for one in listed]

note = merge_request.notes.create({"body": "Hello"})
note = merge_request.notes.get(note.id)
note.body = "Hello again"
note.save()
seen["notes"] = [n.body for n in merge_request.notes.list(sort="asc", order_by="created_at", get_all=True)]
threads = merge_request.discussions.list(get_all=True)
for thread in threads:
    thread.notes.create({"body": "Done."})
seen["threads"] = [len(t.attributes["notes"]) for t in merge_request.discussions.list(get_all=True)]
seen["versions"] = [version.head_commit_sha for version in merge_request.diffs.list(get_all=True)]
seen["approved_by"] = [approval["user"]["username"] for approval in merge_request.approvals.get().approved_by]
seen["reviewers"] = [reviewer.state for reviewer in merge_request.reviewer_details.list(get_all=True)]

commit = project.commits.get(head, lazy=True)
commit.statuses.create({"state": "success", "name": "by-a-client", "description": "fine", "ref": branch})
failed = project.jobs.get(int(job), lazy=True)
seen["trace"] = failed.trace().decode()
failed.retry()
try:
    failed.retry()
except gitlab.exceptions.GitlabJobRetryError as error:
    seen["retried"] = error.response_code
statuses = commit.statuses.list(query_parameters={"all": "true"}, get_all=True)
seen["statuses"] = sorted((status.name, status.status) for status in statuses)

issue = project.issues.create({"title": "An issue", "description": "Text"})
issue.notes.create({"body": "/skep run"})
issue.state_event = "close"
issue.save()
seen["issue"] = project.issues.get(issue.iid).state
seen["labels"] = [event.action for event in issue.resourcelabelevents.list(get_all=True)]
events = project.events.list(action="commented", after="2026-01-01", sort="desc", get_all=True)
seen["events"] = sorted(event.note["noteable_type"] for event in events)

try:
    merge_request.merge(sha="0" * 40)
except gitlab.exceptions.GitlabMRClosedError as error:
    seen["moved"] = error.response_code
merge_request.merge(sha=head, squash=False)
seen["merged"] = (merge_request.state, merge_request.merge_commit_sha)
project.branches.delete(branch)
print(json.dumps(seen))
