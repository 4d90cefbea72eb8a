#!/usr/bin/env python3
"""A docker program for tests. It accepts the subset of docker's command line that Skep uses and rejects everything else, stores its
containers and volumes in a folder, and runs a container as a sandboxed process that outlives it, as an engine would."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading

home = os.environ["DOCKER_HOST"].removeprefix("unix://") + ".d"
odd = set(os.environ) - {"PATH", "HOME", "LC_ALL", "DOCKER_HOST", "DOCKER_CONFIG", "SKEP_JOB", "PWD", "SHLVL", "_", "LC_CTYPE"}
# A Python started by a pyenv shim has the variables of the shim.
odd = {name for name in odd if "PYENV" not in name}
assert not odd, f"unexpected environment: {odd}"
WITH_VALUE = {"--pull", "--name", "--label", "--log-driver", "--network", "--cap-drop", "--security-opt", "--tmpfs", "--memory",
              "--memory-swap", "--cpus", "--pids-limit", "--user", "--workdir", "--volume", "--entrypoint", "--env", "--runtime"}
BARE = {"--interactive", "--init", "--read-only"}
MUST = [("--cap-drop", "ALL"), ("--security-opt", "no-new-privileges"), ("--network", "none"), ("--pull", "never"),
        ("--log-driver", "none"), ("--user", "65534:65534")]


def end(code, text=""):
    print(text, file=sys.stderr)
    sys.exit(code)


def path(kind, name):
    os.makedirs(f"{home}/{kind}", exist_ok=True)
    return f"{home}/{kind}/{name}"


def load(name):
    try:
        with open(path("containers", name)) as file:
            return json.load(file)
    except FileNotFoundError:
        end(1, f"Error response from daemon: No such container: {name}")


def save(box):
    with open(path("containers", box["name"] + ".new"), "w") as file:
        json.dump(box, file)
    os.rename(path("containers", box["name"] + ".new"), path("containers", box["name"]))


def names(kind):
    path(kind, "")
    return sorted(n for n in os.listdir(f"{home}/{kind}") if not n.endswith(".new"))


def alive(box):
    try:
        with open(f"/proc/{box['pid']}/stat") as file:
            return file.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def create(args):
    box, labels, options = {"status": "created", "code": 0, "pid": 0}, [], []
    while args and args[0].startswith("-"):
        option = args.pop(0)
        if option in WITH_VALUE:
            options.append((option, args.pop(0)))
        elif option in BARE:
            options.append((option, True))
        else:
            end(125, f"unknown flag: {option}")
    given = dict(options)
    if args[0] != "image:1":
        end(1, f"Error response from daemon: No such image: {args[0]}")
    box["name"], box["argv"] = given["--name"], [given["--entrypoint"], *args[1:]]
    box["labels"] = [v for k, v in options if k == "--label"]
    box["env"] = [v for k, v in options if k == "--env"]
    box["volume"] = given["--volume"].split(":")[0]
    if "--interactive" in given:
        missing = [m for m in MUST if m not in options] + [b for b in BARE if b not in given]
        assert not missing, f"the container lacks {missing}"
        assert int(given["--memory"].rstrip("b")) > 0 and given["--memory-swap"] == given["--memory"]
        assert given["--volume"].endswith(":/skep") and given["--workdir"] == "/skep/tree" and int(given["--pids-limit"]) > 0
    if os.path.exists(path("containers", box["name"])):
        end(1, "Conflict. The container name is already in use")
    save(box)
    print(box["name"])


def start(name):
    box = load(name)
    # The container's first process waits for the command, so the container ends when the command ends.
    init = ["/bin/sh", "-c", 'exec 3<&0; "$@" <&3 3<&- & exec 3<&- </dev/null; wait $!', "init"]
    sandbox = ["bwrap", "--unshare-pid", "--as-pid-1", "--unshare-net", "--new-session", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
            "--bind", path("volumes", box["volume"]), "/skep", "--chdir", "/skep/tree", "--clearenv", "--setenv", "PATH", "/usr/bin:/bin"]
    for folder in ["/usr", "/etc", "/bin", "/sbin", "/lib", "/lib64"]:
        sandbox += ["--ro-bind-try", folder, folder]
    for pair in box["env"]:
        sandbox += ["--setenv", *pair.split("=", 1)]
    run = subprocess.Popen(sandbox + ["--"] + init + box["argv"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                           start_new_session=True)
    box.update(status="running", pid=run.pid)
    save(box)

    def feed():
        while chunk := os.read(0, 65536):
            run.stdin.write(chunk)
        run.stdin.close()

    threading.Thread(target=feed, daemon=True).start()
    if os.path.exists(home + "/cut"):
        os.remove(home + "/cut")
        end(1, "error during connect: unexpected EOF")
    while chunk := run.stdout.read1(65536):
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
    code = run.wait()
    box.update(status="exited", code=code if code >= 0 else 128 - code)
    save(box)
    os._exit(box["code"])


def state(name):
    box = load(name)
    running = box["status"] == "running" and alive(box)
    status = "running" if running else "exited" if box["status"] == "running" else box["status"]
    code = 137 if box["status"] == "running" else box["code"]
    print(json.dumps({"Status": status, "Running": running, "ExitCode": code, "OOMKilled": False, "Error": ""}))


def kill(box):
    if box["status"] == "running" and alive(box):
        os.killpg(box["pid"], signal.SIGKILL)
        for child in open(f"/proc/{box['pid']}/task/{box['pid']}/children").read().split():
            os.kill(int(child), signal.SIGKILL)


def inside(where):
    name, inner = where.split(":", 1)
    assert inner == "/skep" or inner.startswith("/skep/"), inner
    return path("volumes", load(name)["volume"]) + inner.removeprefix("/skep")


def main(args):
    if os.path.exists(home + "/down"):
        end(1, f"Cannot connect to the Docker daemon at {os.environ['DOCKER_HOST']}. Is the docker daemon running?")
    match args:
        case ["version", "--format", "{{.Server.Version}}"]:
            print("28.0-test")
        case ["image", "inspect", "--format", "{{.Id}}", image]:
            print("sha256:0123456789ab") if image == "image:1" else end(1, f"Error: No such image: {image}")
        case ["ps", "--all", "--no-trunc", "--filter", ours, "--format", '{{.ID}} {{.Label "skep.session"}}']:
            for box in map(load, names("containers")):
                if ours.removeprefix("label=") in box["labels"]:
                    print(box["name"], next(l.split("=")[1] for l in box["labels"] if l.startswith("skep.session=")))
        case ["volume", "ls", "--filter", ours, "--format", "{{.Name}}"]:
            for name in names("labels"):
                if ours.removeprefix("label=") in open(path("labels", name)).read().split("\n"):
                    print(name)
        case ["volume", "create", "--label", owner, "--label", session, name]:
            os.makedirs(path("volumes", name))
            with open(path("labels", name), "w") as file:
                file.write(f"{owner}\n{session}\n")
            print(name)
        case ["volume", "rm", "--force", name]:
            subprocess.run(["chmod", "-R", "u+rwX", path("volumes", name)], check=False)
            shutil.rmtree(path("volumes", name), ignore_errors=True)
            os.remove(path("labels", name))
        case ["create", *rest]:
            create(rest)
        case ["cp", "-", where]:
            with tarfile.open(fileobj=sys.stdin.buffer, mode="r|") as tar:
                tar.extractall(inside(where), numeric_owner=True)
        case ["cp", where, "-"]:
            source = inside(where)
            if not os.path.lexists(source):
                end(1, f"Error response from daemon: Could not find the file {where} in container")
            with tarfile.open(fileobj=sys.stdout.buffer, mode="w|") as tar:
                tar.add(source, arcname=os.path.basename(source), recursive=False)
        case ["start", "--attach", "--interactive", name]:
            start(name)
        case ["container", "inspect", "--format", "{{json .State}}", name]:
            state(name)
        case ["kill", name]:
            kill(load(name))
        case ["rm", "--force", "--volumes", name] | ["rm", "--force", name]:
            kill(load(name))
            os.remove(path("containers", name))
        case _:
            end(125, f"docker: unknown command: {args}")


main(sys.argv[1:])
