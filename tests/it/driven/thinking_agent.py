"""An agent for tests, over ACP ("acp") or headless ("cli"). It asks a model at BASE_URL (Chat Completions) and runs the tools that the model calls."""
import json, os, subprocess, sys, time, urllib.request

way, model = sys.argv[1], sys.argv[2]
base = os.environ["BASE_URL"]
# With "resumes" as its third argument, the agent stores its session in its home and can resume it.
resumes, kept = "resumes" in sys.argv[3:], os.path.join(os.environ["HOME"], "conversation.json")


def ask_model(messages):
    body = json.dumps({"model": model, "messages": messages, "stream": True, "stream_options": {"include_usage": True}, "max_tokens": 500})
    headers = {"Content-Type": "application/json", "Authorization": "Bearer held-by-skep"}
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    text, calls = "", {}
    with opener.open(urllib.request.Request(base + "/chat/completions", body.encode(), headers)) as answer:
        for line in answer:
            if not line.startswith(b"data: {"):
                continue
            for choice in json.loads(line[6:])["choices"]:
                text += choice["delta"].get("content") or ""
                for part in choice["delta"].get("tool_calls") or []:
                    call = calls.setdefault(part["index"], {"id": "", "name": "", "args": ""})
                    call["id"] += part.get("id") or ""
                    call["name"] += part["function"].get("name") or ""
                    call["args"] += part["function"].get("arguments") or ""
    return text, [calls[n] for n in sorted(calls)]


def hang(folder, permission):
    """Starts a child outside the process group, then hangs forever. With `permission`, it first waits for a file `go` and requests a permission."""
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    with open(os.path.join(folder, "pids.new"), "w") as f:
        f.write(str(os.getpid()) + " " + str(child.pid))
    os.rename(os.path.join(folder, "pids.new"), os.path.join(folder, "pids"))
    while permission and not os.path.exists(os.path.join(folder, "go")):
        time.sleep(0.01)
    if permission:
        options = [dict(optionId="yes", name="Yes", kind="allow_once"), dict(optionId="no", name="No", kind="reject_once")]
        params = dict(sessionId="s-1", toolCall=dict(toolCallId="c1"), options=options)
        send(dict(id=1, method="session/request_permission", params=params))
        open(os.path.join(folder, "asked"), "w").close()
    while True:
        time.sleep(100)


def work(prompt, folder, say, messages):
    messages.append({"role": "user", "content": prompt})
    while True:
        if resumes:
            with open(kept + ".new", "w") as f:
                json.dump(messages, f)
            os.rename(kept + ".new", kept)
        text, calls = ask_model(messages)
        done = [c for c in calls if c["name"] == "done"]
        if done or not calls:
            say(json.loads(done[0]["args"])["summary"] if done else text)
            return
        asked = [{"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": c["args"]}} for c in calls]
        messages.append({"role": "assistant", "content": text, "tool_calls": asked})
        for call in calls:
            args = json.loads(call["args"])
            if call["name"] == "hang":
                hang(folder, args["permission"])
            path = os.path.join(folder, args.get("path", "."))
            if call["name"] == "edit":
                new = open(path).read()
                for edit in args["edits"]:
                    new = new.replace(edit["old"], edit["new"])
                open(path, "w").write(new)
            result = open(path).read() if os.path.isfile(path) else " ".join(os.listdir(path))
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})


def send(message):
    print(json.dumps(dict({"jsonrpc": "2.0"}, **message)), flush=True)


if way == "cli":
    work(sys.stdin.read(), os.getcwd(), print, [])
    sys.exit(0)
folder, messages = "", []
for line in sys.stdin:
    message = json.loads(line)
    method, answer = message.get("method"), {}
    if method == "initialize":
        answer = {"protocolVersion": 1, "agentCapabilities": {"loadSession": resumes}, "authMethods": []}
    elif method == "session/new":
        folder = message["params"]["cwd"]
        answer = {"sessionId": "s-1"}
    elif method == "session/load":
        folder, messages = message["params"]["cwd"], json.load(open(kept))
    elif method == "session/prompt":
        chunk = lambda text: {"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": text}}
        tell = lambda text: send({"method": "session/update", "params": {"sessionId": "s-1", "update": chunk(text)}})
        work("".join(block["text"] for block in message["params"]["prompt"]), folder, tell, messages)
        # A false usage, which must not be charged.
        answer = {"stopReason": "end_turn", "usage": {"totalTokens": 7, "inputTokens": 4, "outputTokens": 3}}
    if "id" in message and method:
        send({"id": message["id"], "result": answer})
