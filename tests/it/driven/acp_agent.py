"""Agent for tests that speaks ACP over stdio and plays the part named by its first argument."""
import json, os, signal, subprocess, sys, time

part, ids, notes = sys.argv[1], 0, []
cwd = session = None
loaded = False


def send(message):
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def read():
    line = sys.stdin.readline()
    if not line:
        sys.exit(0)
    return json.loads(line)


def ask(method, params):
    """Sends a request and waits for its response; other messages are queued."""
    global ids
    ids += 1
    send({"id": ids, "method": method, "params": {"sessionId": session, **params}})
    while True:
        message = read()
        if message.get("id") == ids and "method" not in message:
            return message
        notes.append(message)


def update(sort, **more):
    send({"method": "session/update", "params": {"sessionId": session, "update": {"sessionUpdate": sort, **more}}})


def say(text):
    update("agent_message_chunk", content={"type": "text", "text": text})


def permission(call, options):
    return ask("session/request_permission", {"toolCall": {"toolCallId": "c1", **call}, "options": options})


def option(name, kind):
    return {"optionId": name, "name": "Yes, always!", "kind": kind}


def keep(name, value):
    with open(os.path.join(cwd, name), "w") as f:
        json.dump(value, f)


def command(line, **more):
    """Runs a shell command in a terminal to its end. Returns its output and its exit status."""
    made = ask("terminal/create", {"command": "sh", "args": ["-c", line], **more})
    if "error" in made:
        return made
    terminal = made["result"]
    exit = ask("terminal/wait_for_exit", terminal)["result"]
    said = ask("terminal/output", terminal)["result"]
    ask("terminal/release", terminal)
    return {"exit": exit, "said": said}


def commands():
    os.makedirs(cwd + "/sub dir")
    os.symlink("/etc", cwd + "/way")
    variable = lambda name, value: {"env": [{"name": name, "value": value}]}
    got = {
        "both streams": command("echo out; echo err >&2; exit 3"),
        "words": ask("terminal/create", {"command": "printf", "args": ["%s|", "$HOME", "a b", "`id`", "'"]}),
        "folder": command("pwd", cwd=cwd + "/sub dir"),
        "variable": command("echo $GIVEN $SKEP_CANARY", **variable("GIVEN", "x y")),
        "home": command("echo $HOME"),
        "limit": command("printf 0123456789", outputByteLimit=4),
        "flood": command("yes | head -c 30000000"),
        "no program": ask("terminal/create", {"command": "no-such-program"}),
        "outside": command("pwd", cwd="/etc"),
        "by a link": command("pwd", cwd=cwd + "/way"),
        "above": command("pwd", cwd=cwd + "/../.."),
        "Skep's name": command("true", **variable("SKEP_JOB", "1")),
        "no name": command("true", **variable("A=B", "1")),
        "NUL": ask("terminal/create", {"command": "a\0b"}),
        "nothing": ask("terminal/create", {"command": ""}),
        "unknown": ask("terminal/output", {"terminalId": "terminal-99"}),
    }
    for name in ["words", "no program"]:
        terminal = got[name]["result"]
        got[name] = {"exit": ask("terminal/wait_for_exit", terminal)["result"], "said": ask("terminal/output", terminal)["result"]}
        got["released"] = ask("terminal/release", terminal)
        got["after it"] = ask("terminal/output", terminal)
    got["flood"]["said"]["output"] = len(got["flood"]["said"]["output"])
    # The client still answers other requests while it waits for the exit.
    line = "echo begun; setsid sleep 1000 & echo $$ $! > pids.new; mv pids.new pids; exec sleep 1000"
    long = ask("terminal/create", {"command": "sh", "args": ["-c", line]})["result"]
    while not os.path.exists(cwd + "/pids"):
        time.sleep(0.02)
    send({"id": 7000, "method": "terminal/wait_for_exit", "params": {"sessionId": session, **long}})
    while "begun" not in ask("terminal/output", long)["result"]["output"]:
        time.sleep(0.02)
    got["alive"] = ask("terminal/output", long)["result"]
    got["kill"] = ask("terminal/kill", long)
    waited = [m for m in notes if m.get("id") == 7000]
    while not waited:
        waited = [m for m in [read()] if m.get("id") == 7000]
    notes[:] = [m for m in notes if m.get("id") != 7000]
    got["waited"] = waited[0]
    got["killed"] = ask("terminal/output", long)["result"]
    return got


def orphan():
    """Starts a child outside the process group. Returns its process id."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return child.pid


def play(prompt, turn):
    """Plays one turn. Returns its stop reason or the whole result."""
    if part == "edit":
        keep("prompt.json", prompt)
        update("agent_thought_chunk", content={"type": "text", "text": "let me see"})
        say("I fix ")
        say("it.\n")
        update("tool_call", toolCallId="c1", title="Edit calc.py", kind="edit", status="pending")
        edit = {"kind": "edit", "locations": [{"path": cwd + "/calc.py"}]}
        always_first = [option("always", "allow_always"), option("proceed_once", "allow_once"), option("no", "reject_once")]
        keep("permission.json", permission(edit, always_first)["result"])
        old = ask("fs/read_text_file", {"path": cwd + "/calc.py"})["result"]["content"]
        ask("fs/write_text_file", {"path": cwd + "/calc.py", "content": old.replace("-", "+")})
        update("tool_call_update", toolCallId="c1", status="completed")
        update("tool_call", toolCallId="c2", title="make test", kind="execute", status="in_progress")  # never ends
        update("usage_update", used=10, size=100, cost={"amount": 0.005, "currency": "USD"})
        update("plan", entries=[{"content": "test", "priority": "high", "status": "in_progress"}])
        say("Fixed add();\nthe tests pass.")
        return {"stopReason": "end_turn", "usage": {"totalTokens": 1350, "inputTokens": 1300, "outputTokens": 50}}
    if part == "grabs":
        os.symlink("/etc/passwd", cwd + "/link")
        os.mkfifo(cwd + "/pipe")
        open(cwd + "/large", "wb").write(b"x" * 5_000_000)
        open(cwd + "/binary", "wb").write(b"\xff\xfe")
        os.makedirs(cwd + "/sub")
        os.symlink("/tmp", cwd + "/sub/way")
        got = {}
        for path in ["/etc/passwd", cwd + "/../outside", cwd + "/link", cwd + "/pipe", cwd + "/large", cwd + "/binary", cwd, ""]:
            got["read " + path] = ask("fs/read_text_file", {"path": path})
        for path in ["/tmp/skep-test-escape", cwd + "/../escape", cwd + "/link", cwd + "/sub/way/skep-test-escape"]:
            got["write " + path] = ask("fs/write_text_file", {"path": path, "content": "x"})
        got["write too much"] = ask("fs/write_text_file", {"path": cwd + "/new", "content": "x" * 5_000_000})
        for call in [{"locations": [{"path": "/etc/passwd"}]}, {"rawInput": {"file_path": cwd + "/../x"}}]:
            got["permit " + json.dumps(call)] = permission(call, [option("y", "allow_once"), option("n", "reject_once")])
        got["permit for always"] = permission({}, [option("y", "allow_always"), option("n", "reject_once")])
        got["permit nothing"] = permission({"locations": [{"path": "/"}]}, [option("y", "allow_once")])
        got["unheard of"] = ask("craft/drainMidTurnQueue", {})
        keep("got.json", got)
        open(cwd + "/lines", "w").write("1\n2\n3\n4\n")
        keep("lines.json", ask("fs/read_text_file", {"path": cwd + "/lines", "line": 2, "limit": 2}))
        return "end_turn"
    if part.startswith("resumes"):
        if not loaded:
            open(cwd + "/half", "w").write("half of it")
            open(cwd + "/pids", "w").write(f"{os.getpid()} {orphan()}")
            say("working\n")
            while True:
                time.sleep(100)
        keep("told.json", prompt)
        say("Finished the other half.")
        return {"stopReason": "end_turn", "usage": {"totalTokens": 100, "inputTokens": 90, "outputTokens": 10}}
    if part == "commands":
        keep("got.json", commands())
        return "end_turn"
    if part == "leaves commands":
        for n in range(17):
            line = f"sleep 1000 & echo $$ $! >> pids; wait"
            got = ask("terminal/create", {"command": "sh", "args": ["-c", line]})
        keep("got.json", got)
        while len(open(cwd + "/pids").read().split()) < 32:
            time.sleep(0.02)
        return "end_turn"
    if part == "writes":
        keep("got.json", ask("fs/write_text_file", {"path": cwd + "/new", "content": "x"}))
        say('```json\n{"verdict": "approve", "findings": [], "summary": "fine"}\n```')
        return "end_turn"
    if part == "deaf":
        # Sends requests and never reads a response.
        open(cwd + "/large", "w").write("x" * 2_000_000)
        for n in range(100_000):
            send({"id": n, "method": "fs/read_text_file", "params": {"sessionId": session, "path": cwd + "/large"}})
            if n % 100 == 0:
                keep("asked.json", n)
        return "end_turn"
    if part.startswith("holds "):
        for n in range(int(part[6:])):
            say(f"line {n} of about a hundred characters, as an agent that tells of what it does would say it now.\n")
        update("tool_call", toolCallId="c1", title="holding", status="pending")
        while read().get("method") != "session/cancel":
            pass
        return "cancelled"
    if part.startswith("floods "):
        for n in range(int(part[7:])):
            say(f"line {n} of about a hundred characters, as an agent that tells of what it does would say it now.\n")
        return "end_turn"
    if part == "leaks":
        value = os.environ["LEAK"]
        half = len(value) // 2
        say("It is " + value[:half])
        say(value[half:] + ".\n")
        # Longer than the buffer for a line without a newline.
        say("z" * 6_390 + value[:half])
        say(value[half:] + "z" * 300)
        update("agent_thought_chunk", content={"type": "text", "text": value[:half]})
        update("agent_thought_chunk", content={"type": "text", "text": value[half:]})
        update("tool_call", toolCallId="c1", title="t" * 390 + value, status="pending")
        print("banner " * 55 + value, flush=True)
        print("e" * 20_000 + value, file=sys.stderr, flush=True)
        return {"error": {"code": -32603, "message": "Internal error", "data": value + "d" * 2_040}}
    if part == "noise":
        print("Warning: a banner on standard output", flush=True)
        print("[1, 2]\n{not json}\n" + "x" * 100_000, flush=True)
        sys.stdout.buffer.write(b'{"\xff": 1}\n')
        sys.stdout.flush()
        update("something_new", what=1)
        send({"method": "_auth/status_update", "params": {"a": 1}})
        send({"method": "session/update", "params": {"nonsense": True}})
        send({"id": 999, "result": {"for": "nobody"}})
        update("tool_call_update", toolCallId="never announced", status="failed")
        say("still here \x1b[31mred\x1b[0m")
        return "end_turn"
    if part == "corrects":
        keep(f"told-{turn}.json", prompt)
        say(["no block", '```json\n{"tasks": []}\n```', '```json\n{"tasks": [{"name": "a", "title": "A", "text": "Do"}]}\n```'][turn])
        return "end_turn"
    if part == "never corrects":
        say('```json\n{"verdict": "merge"}\n```')
        return "end_turn"
    if part == "notes":
        say("add is in calc.py:2")
        return "end_turn"
    if part == "asks":
        say('```json\n{"question": "Which port?"}\n```')
        return "end_turn"
    if part in ("asks for more", "asks for always"):
        kinds = ["allow_always"] if part == "asks for always" else ["allow_once", "allow_persistent"]
        call = {"kind": "edit", "locations": [{"path": cwd + "/a"}]}
        outcome = permission(call, [option(k, k) for k in [*kinds, "reject_once"]])["result"]["outcome"]
        say("permitted" if outcome.get("optionId") == "allow_once" else "refused")
        return "end_turn"
    if part.startswith("stop "):
        return part[5:]
    if part == "gives up":
        permission({"locations": [{"path": "/etc/shadow"}]}, [option("y", "allow_once"), option("n", "reject_once")])
        return "cancelled"
    if part.startswith("crash "):
        print(part[6:], file=sys.stderr, flush=True)
        os._exit(3)
    if part.startswith("error "):
        return {"error": {"code": -32603, "message": "Internal error", "data": {"details": part[6:]}}}
    if part == "silent":
        open(cwd + "/pids", "w").write(f"{os.getpid()} {orphan()}")
        while True:
            message = read()
            if message.get("method") == "session/cancel":
                keep("cancelled.json", True)
                return "cancelled"
    if part == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open(cwd + "/pids", "w").write(f"{os.getpid()} {orphan()}")
        while True:
            time.sleep(100)
    if part == "busy":
        open(cwd + "/pids", "w").write(f"{os.getpid()} {orphan()}")
        while True:
            say("working\n")
            time.sleep(0.05)
    if part == "spends":
        cost = 0.0
        while True:
            cost += 0.01
            update("usage_update", used=1, size=2, cost={"amount": cost, "currency": "USD"})
            time.sleep(0.05)
    if part == "lies":
        update("usage_update", used=1, size=2, cost={"amount": -1e300, "currency": "USD"})
        return {"stopReason": "end_turn", "usage": {"totalTokens": 2**63, "inputTokens": 1, "outputTokens": 1}}
    if part == "giant":
        sys.stdout.write('{"a": "')
        for _ in range(20):
            sys.stdout.write("x" * 1_000_000)
        sys.stdout.write('"}\n')
        sys.stdout.flush()
        time.sleep(100)
    if part == "looks":
        env = {name: os.environ.get(name) for name in ["HOME", "GIVEN", "HARD", "CARGO_MANIFEST_DIR"]}
        argv = open("/proc/self/cmdline").read()
        files = {f: open(os.path.join(os.environ["HOME"], f)).read() for f in [".agent/config.json"]}
        keep("looks.json", {"env": env, "argv": argv, "files": files, "args": sys.argv[2:]})
        return "end_turn"
    raise SystemExit("no such part: " + part)


turns = 0
while True:
    message = notes.pop(0) if notes else read()
    method, answer = message.get("method"), None
    if method == "initialize":
        version = 2 if part == "version" else 1
        can = {"loadSession": True} if part != "resumes quietly" else {"sessionCapabilities": {"resume": {}}}
        answer = {"protocolVersion": version, "agentCapabilities": can, "authMethods": []}
    elif method in ["session/load", "session/resume"]:
        cwd, session, loaded = message["params"]["cwd"], message["params"]["sessionId"], True
        known = os.path.join(os.environ["HOME"], "session-" + session)
        if part == "resumes never":
            time.sleep(100)
        if part == "resumes and crashes":
            os._exit(4)
        if part == "resumes not" or not os.path.exists(known) or (method == "session/load") != ("quietly" not in part):
            send({"id": message["id"], "error": {"code": -32603, "message": "Invalid session identifier"}})
            continue
        if method == "session/load":
            # Replays its history first, which must not count as an answer.
            say('```json\n{"question": "of the past?"}\n```')
        answer = {}
    elif method == "session/new":
        cwd, session = message["params"]["cwd"], "s\x07-1"
        if part.startswith("resumes"):
            session = "s-1"
            open(os.path.join(os.environ["HOME"], "session-s-1"), "w").close()
        if part == "login":
            send({"id": message["id"], "error": {"code": -32000, "message": "Authentication required"}})
            continue
        modes = [{"id": "ask", "name": "Ask"}, {"id": "auto", "name": "Auto"}]
        answer = {"sessionId": session, "modes": {"currentModeId": "ask", "availableModes": modes}}
    elif method == "session/set_mode":
        keep("mode.json", message["params"]["modeId"])
        answer = {}
    elif method == "session/prompt":
        text = "".join(block["text"] for block in message["params"]["prompt"])
        result = play(text, turns)
        turns += 1
        if isinstance(result, dict) and "error" in result:
            send({"id": message["id"], **result})
            continue
        answer = {"stopReason": result} if isinstance(result, str) else result
    if "id" in message and method:
        send({"id": message["id"], "result": answer})
