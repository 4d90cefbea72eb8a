"""Headless agent for tests. It plays the part named by its first argument, with shortened output of real agents."""
import json, os, signal, subprocess, sys, time

part = sys.argv[1]


def lines(*values):
    for value in values:
        print(json.dumps(value), flush=True)


def edit():
    text = open("calc.py").read()
    open("calc.py", "w").write(text.replace("-", "+"))


def orphan():
    child = subprocess.Popen(["sleep", "1000"], start_new_session=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    open("pids", "w").write(f"{os.getpid()} {child.pid}")


if part == "claude":
    open("prompt", "w").write(sys.stdin.read())
    edit()
    message = lambda content: {"type": "assistant", "message": {"content": [content]}, "session_id": "6ff"}
    lines(
        {"type": "system", "subtype": "init", "session_id": "6ff"},
        message({"type": "thinking", "thinking": "hm"}),
        message({"type": "text", "text": "Step 1: edit."}),
        message({"type": "tool_use", "name": "Edit", "input": {"file_path": "calc.py"}}),
        {"type": "user", "message": {"role": "user", "content": [{"type": "tool_result", "content": "ok"}]}},
        {"type": "result", "subtype": "success", "is_error": False, "result": "Fixed add().", "session_id": "6ff",
         "total_cost_usd": 0.0168, "usage": {"input_tokens": 4600, "cache_read_input_tokens": 20, "output_tokens": 200}},
    )
elif part == "claude fails":
    lines({"type": "result", "subtype": "success", "is_error": True, "session_id": "6ff",
           "result": "API Error: 529 overloaded_error"})
    sys.exit(1)
elif part == "codex":
    edit()
    item = lambda kind, **more: {"type": "item.completed", "item": {"id": "i", "type": kind, **more}}
    lines(
        {"type": "thread.started", "thread_id": "01a1"},
        item("error", message="Model metadata not found"),
        item("agent_message", text="Step 1."),
        {"type": "item.started", "item": {"type": "command_execution", "command": "make test"}},
        item("agent_message", text="Fixed add()."),
        {"type": "turn.completed", "usage": {"input_tokens": 4600, "cached_input_tokens": 0, "output_tokens": 200}},
    )
elif part == "codex fails":
    lines({"type": "error", "message": "reconnecting"}, {"type": "turn.failed", "error": {"message": "unexpected status 401 Unauthorized"}})
    sys.exit(1)
elif part == "opencode":
    edit()
    of = lambda kind, **part: {"type": kind, "sessionID": "ses_1", "part": part}
    lines(
        of("text", type="text", text="Step 1."),
        of("tool_use", tool="edit"),
        of("step_finish", tokens={"total": 1050}, cost=0.001),
        of("text", type="text", text="Fixed add()."),
        of("step_finish", tokens={"total": 1150}, cost=0.002),
    )
elif part == "gemini":
    edit()
    print("YOLO mode is enabled.", file=sys.stderr)
    tokens = {"prompt": 4600, "total": 4800}
    stats = {"models": {"a": {"tokens": tokens}, "b": {"tokens": tokens}}}
    print(json.dumps({"session_id": "865c", "response": "Fixed add().", "stats": stats}, indent=2))
elif part == "text":
    print("\x1b[1mApplied edit\x1b[0m to calc.py\nDone.")
elif part == "plan":
    print('Here it is:\n```json\n{"tasks": [{"name": "a", "title": "A", "text": "Do"}]}\n```')
elif part == "argument":
    open("got", "w").write(sys.argv[2] + "|" + sys.stdin.read())
elif part == "file":
    open("got", "w").write(open(sys.argv[2]).read() + "|" + sys.stdin.read())
elif part == "flood":
    for _ in range(100):
        lines({"type": "text", "part": {"text": "x" * 100_000}})
    sys.stdout.write('{"type": "text", "part": {"text": "' + "y" * 20_000_000 + '"}}\n')
    lines({"type": "text", "part": {"text": "end"}})
elif part == "deaf":
    sys.stdin.close()
    print("did not listen")
elif part == "daemon":
    orphan()
    # The child holds the output open.
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("left something behind")
elif part == "silent":
    orphan()
    time.sleep(1000)
elif part == "busy":
    orphan()
    while True:
        print("working", flush=True)
        time.sleep(0.05)
elif part == "trap":
    # Takes a moment to clean up on SIGTERM.
    def tidy(*_):
        time.sleep(0.5)
        open("tidy", "w").write("done")
        sys.exit(0)

    signal.signal(signal.SIGTERM, tidy)
    orphan()
    while True:
        time.sleep(1000)
elif part == "ignore":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    orphan()
    while True:
        time.sleep(1000)
elif part == "leak":
    half = len(sys.argv[2]) // 2
    for piece in [sys.argv[2][:half], sys.argv[2][half:] + "\n", "x" * 390 + sys.argv[2] + "\n"]:
        sys.stdout.write(piece)
        sys.stdout.flush()
        time.sleep(0.1)
    print("x" * 20_000 + sys.argv[2], file=sys.stderr)
    print("y" * 6_390 + sys.argv[2] + "y" * 4_000)
    sys.exit(3)
elif part == "exit":
    print(sys.argv[3] if len(sys.argv) > 3 else "oh no", file=sys.stderr)
    sys.exit(int(sys.argv[2]))
else:
    raise SystemExit("no such part: " + part)
