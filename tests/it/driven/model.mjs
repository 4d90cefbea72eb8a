// A scripted model server for real agents. It plays the steps read, edit, test and done with the tools of the calling
// agent, and appends the usage of every answer to COUNT_FILE.
//   node model.mjs NODE_MODULES PORT COUNT_FILE
// A prompt with `FIX dir=/abs/path` starts the script. The number of tool results after it is the step, so that calls
// need no state.
// With `SLOW` in the prompt, the second call hangs, but only once. With `dir=HERE`, the directory is the working
// directory that the agent names in its messages.
// With `FAULT=401` (or another of the faults below), every call is refused.
import fs from "node:fs";
import { createRequire } from "node:module";
const [modules, port, counts] = process.argv.slice(2);
const { LLMock } = createRequire(modules + "/x.js")("@copilotkit/aimock");

const shell = { read: "cat calc.py", edit: "sed -i 's/a - b/a + b/' calc.py", test: "python3 -m unittest -q" };
const replace = (path, old, now) => (dir) => ({ [path]: dir + "/calc.py", [old]: "return a - b", [now]: "return a + b" });
// How an agent reads, edits and tests, by the name of a tool that identifies the agent.
const agents = {
  exec_command: (step) => ["exec_command", { cmd: shell[step] }],
  shell_command: (step) => ["shell_command", { command: shell[step] }],
  shell: (step) => ["shell", { command: ["bash", "-lc", shell[step]] }],
  Bash: (step, dir) => ({
    read: ["Read", { file_path: dir + "/calc.py" }],
    edit: ["Edit", replace("file_path", "old_string", "new_string")(dir)],
    test: ["Bash", { command: shell.test, description: "run tests" }],
  })[step],
  tool_search: (step, dir) => ({
    read: ["read_file", { file_path: dir + "/calc.py" }],
    edit: ["edit", replace("file_path", "old_string", "new_string")(dir)],
    test: ["run_shell_command", { command: shell.test, description: "run tests", is_background: false }],
  })[step],
  run_shell_command: (step, dir) => ({
    read: ["read_file", { file_path: dir + "/calc.py" }],
    edit: ["replace", { ...replace("file_path", "old_string", "new_string")(dir), instruction: "fix the sign" }],
    test: ["run_shell_command", { command: shell.test, description: "run tests" }],
  })[step],
  todowrite: (step, dir) => ({
    read: ["read", { filePath: dir + "/calc.py" }],
    edit: ["edit", replace("filePath", "oldString", "newString")(dir)],
    test: ["bash", { command: shell.test, description: "run tests" }],
  })[step],
  editor: (step, dir) => ({
    read: ["read_files", { files: [{ path: dir + "/calc.py" }] }],
    edit: ["editor", replace("path", "old_text", "new_text")(dir)],
    test: ["run_commands", { commands: [shell.test] }],
  })[step],
  edit: (step) => ({
    read: ["read", { path: "calc.py" }],
    edit: ["edit", { path: "calc.py", edits: [{ oldText: "return a - b", newText: "return a + b" }] }],
    test: ["bash", { command: shell.test }],
  })[step],
  bash: (step) => ["bash", { command: step === "end" ? "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo 'Fixed add(); the tests pass.'" : shell[step] }],
};
// Error bodies of a provider that refuses a call, by status.
const faults = {
  401: { message: "Incorrect API key provided", type: "authentication_error", code: "invalid_api_key" },
  404: { message: "The model does not exist", type: "not_found_error", code: "model_not_found" },
  429: { message: "Rate limit reached", type: "rate_limit_error", code: "rate_limit_exceeded" },
};
const block = "calc.py\n```python\n<<<<<<< SEARCH\n    return a - b\n=======\n    return a + b\n>>>>>>> REPLACE\n```\n";
const text = (m) => (typeof m.content === "string" ? m.content : (m.content || []).map((p) => p.text || "").join("\n"));

async function answer(request) {
  const messages = request.messages || [];
  const tools = (request.tools || []).map((t) => t.function?.name || t.name);
  const asked = messages.findLastIndex((m) => m.role === "user" && /FIX dir=/.test(text(m)));
  const done = messages.slice(asked + 1).filter((m) => m.role === "tool").length;
  const fault = asked >= 0 && /FAULT=(\d+)/.exec(text(messages[asked]))?.[1];
  if (fault) return { error: faults[fault], status: +fault, ...(fault === "429" ? { retryAfter: 7200 } : {}) };
  const [input, output] = [1000 + 100 * done, 50];
  fs.appendFileSync(counts, JSON.stringify({ input, output, model: request.model }) + "\n");
  const usage = { prompt_tokens: input, completion_tokens: output, input_tokens: input, output_tokens: output,
    promptTokenCount: input, candidatesTokenCount: output, totalTokenCount: input + output };
  const agent = asked >= 0 && Object.keys(agents).find((name) => tools.includes(name));
  // An agent without tools edits through blocks in the answer text.
  const worded = asked >= 0 && !tools.length && /SEARCH\/REPLACE/.test(JSON.stringify(messages));
  const edited = messages.slice(asked + 1).some((m) => m.role === "assistant" && text(m).includes(block));
  if (worded) return { content: edited ? "Fixed add(); the tests pass." : "Fixed add(): the sign was wrong.\n\n" + block, usage };
  if (!agent) return { content: "ok", usage };
  if (done === 1 && /SLOW/.test(text(messages[asked])) && !fs.existsSync(counts + ".slow")) {
    fs.writeFileSync(counts + ".slow", "");
    await new Promise(() => {});
  }
  const step = ["read", "edit", "test", ...(agent === "bash" ? ["end"] : [])][done];
  if (!step) return { content: "Fixed add(); the tests pass.", usage };
  const told = /FIX dir=([^\s<"']+)/.exec(text(messages[asked]))[1];
  const dir = told !== "HERE" ? told : /working directory: *`?([^\s<"'`]+)/i.exec(messages.map(text).join("\n"))?.[1];
  const [name, args] = agents[agent](step, dir);
  const call = { id: "call_" + done + "_" + Math.random().toString(36).slice(2, 8), name, arguments: JSON.stringify(args) };
  return { content: "Now: " + step + ".", toolCalls: [call], usage };
}

const server = new LLMock({ port: +port, host: "127.0.0.1", logLevel: "error" });
server.addFixture({ match: { predicate: () => true }, response: answer });
await server.start();
console.log("ready");
