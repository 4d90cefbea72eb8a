// Saves reloading: when the service reports that something moved, the same page is fetched again and what differs is
// replaced. Everything here works without it, by links, forms and the reload key.
//
// One stream per browser: the tab that holds the lock listens and tells the others, because a browser opens only six
// connections to a service.

const $ = (query, root = document) => root.querySelector(query);
const policy = window.trustedTypes?.createPolicy("skep", { createHTML: (text) => text });
const topic = document.body.dataset.live ?? "";
const own = document.body.dataset.build;

/** @param {string} text A page of this service. */
const parsed = (text) => new DOMParser().parseFromString(policy ? policy.createHTML(text) : text, "text/html");

/** Makes an element. @param {string} name @param {object} values @param {(Node|string)[]} content */
const make = (name, values = {}, ...content) => {
  const node = Object.assign(document.createElement(name), values);
  node.append(...content);
  return node;
};

/** @param {string} text */
const say = (text) => { $("#said").textContent = text; };

/** @param {string} text */
const connection = (text) => {
  const place = $("#connection");
  if (!place) return;
  place.hidden = text === "";
  place.textContent = text;
};

// --- replacing what differs -----------------------------------------------------------------------------------------

/** Whether a person is busy with this element: it is left alone. @param {Element} node */
const isBusy = (node) => node.matches("form, dialog, details.menu, details.answer")
  && (node.contains(document.activeElement) && node !== document.activeElement.closest("summary")?.parentElement
    || [...node.querySelectorAll("textarea, input:not([type=hidden])")].some((f) => f.value !== f.defaultValue || f.checked !== f.defaultChecked));

/** @param {Node} old @param {Node} now */
const patch = (old, now) => {
  if (old.isEqualNode(now)) return;
  if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName || old.id !== now.id) { old.replaceWith(now); return; }
  if (!(old instanceof Element)) { old.nodeValue = now.nodeValue; return; }
  if (isBusy(old)) return;
  for (const { name } of [...old.attributes]) {
    if (!now.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of now.attributes) {
    if (old.getAttribute(name) !== value && !(name === "open" && old.nodeName === "DETAILS")) old.setAttribute(name, value);
  }
  const named = new Map([...old.children].filter((c) => c.id).map((c) => [c.id, c]));
  let at = old.firstChild;
  for (const child of [...now.childNodes]) {
    const same = child.id ? named.get(child.id) : undefined;
    if (same && same !== at) { old.insertBefore(same, at); patch(same, child); continue; }
    if (!at || (at.id && at.id !== child.id && named.has(at.id) && child.id)) { old.insertBefore(child, at); continue; }
    const next = at.nextSibling;
    patch(at, child);
    at = next;
  }
  while (at) { const next = at.nextSibling; if (!(at instanceof Element && isBusy(at))) at.remove(); at = next; }
};

let tag = "";
let fetching = false;
let again = false;
let timer = 0;

const refresh = async () => {
  if (fetching) { again = true; return; }
  fetching = true;
  try {
    const reply = await fetch(location.href, { headers: tag ? { "If-None-Match": tag } : {}, redirect: "manual", cache: "no-store" });
    if (reply.type === "opaqueredirect") { connection("Your session has ended: reload to log in"); return; }
    if (reply.status === 304 || !reply.ok) return;
    tag = reply.headers.get("etag") ?? "";
    const page = parsed(await reply.text());
    const now = $("main", page);
    if (now) patch($("main"), now);
    if (document.title !== page.title) { document.title = page.title; say(page.title); }
    mark();
  } catch { connection("Not connected: what you see may be old"); } finally {
    fetching = false;
    if (again) { again = false; schedule(); }
  }
};

// At most once a second, and once after the last news.
const schedule = () => {
  if (timer || document.visibilityState === "hidden") { missed = missed || document.visibilityState === "hidden"; return; }
  timer = setTimeout(() => { timer = 0; refresh(); }, 1000);
};
let missed = false;
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible" && missed) { missed = false; refresh(); } });

// --- news ---------------------------------------------------------------------------------------------------------

/** @param {{run?: string, seq?: number, output?: boolean, build?: string, lost?: boolean}} news */
const heard = (news) => {
  if (news.lost) { connection("Not connected: what you see may be old"); return; }
  connection("");
  if (news.build) {
    if (news.build !== own) connection("Skep was updated: reload the page");
    else if (news.again) schedule();
    return;
  }
  const [kind, id] = topic.split(":");
  if (!kind || (id && news.run && news.run !== id)) return;
  // What a run prints is shown on one page only.
  if (news.output && kind !== "output") return;
  // A diff that is read must not change under the reader.
  if (kind === "moved") connection("The run has moved: reload to see its present changes"); else schedule();
};

const listen = () => {
  const channel = "BroadcastChannel" in window ? new BroadcastChannel("skep") : null;
  channel?.addEventListener("message", (event) => heard(event.data));
  const tell = (news) => { heard(news); channel?.postMessage(news); };
  const lead = () => new Promise(() => {
    let before = false;
    const stream = new EventSource("/live");
    stream.addEventListener("hello", (event) => { tell({ build: event.data, again: before }); before = true; });
    stream.addEventListener("moved", (event) => tell(JSON.parse(event.data)));
    stream.addEventListener("error", () => tell({ lost: true }));
  });
  if (navigator.locks) navigator.locks.request("skep-live", lead);
  else lead();
};
if (topic) listen();

// --- times --------------------------------------------------------------------------------------------------------

const distance = (at) => {
  const secs = Math.trunc((Date.now() - at) / 1000);
  const n = Math.abs(secs);
  if (secs >= 0 && n < 45) return "just now";
  const [value, unit] = n < 90 ? [n, "s"] : n < 5400 ? [n / 60, "min"] : n < 129600 ? [n / 3600, "h"] : [n / 86400, "d"];
  return secs >= 0 ? `${Math.trunc(value)} ${unit} ago` : `in ${Math.trunc(value)} ${unit}`;
};
setInterval(() => {
  if (document.visibilityState === "hidden") return;
  for (const time of document.querySelectorAll("time[datetime]")) {
    const text = distance(Date.parse(time.dateTime));
    if (time.textContent !== text) time.textContent = text;
  }
}, 20000);

// --- lines of a diff become the reason of a decline ---------------------------------------------------------------

document.addEventListener("click", (event) => {
  const link = event.target.closest?.(".diff .n a");
  const reason = $("#reason");
  if (!link || !reason || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  const path = link.closest("[data-path]").dataset.path;
  const line = `${path}:${link.textContent.trim()}: `;
  reason.value = reason.value.trim() ? `${reason.value.trimEnd()}\n${line}` : line;
  reason.focus();
  reason.setSelectionRange(reason.value.length, reason.value.length);
});

// One line of a file takes the tab key; from there, arrow keys lead to the others.
document.addEventListener("keydown", (event) => {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (!by || !event.target.matches?.(".diff .n a")) return;
  const all = [...document.querySelectorAll(".diff .n a")].filter((a) => a.offsetParent);
  const next = all[all.indexOf(event.target) + by];
  if (!next) return;
  event.preventDefault();
  next.focus();
});

// --- viewed files: remembered by the digest of their changes, so that a changed file is not viewed any more ---------

const VIEWED = "skep-viewed";
const viewed = () => { try { return new Set(JSON.parse(localStorage.getItem(VIEWED) ?? "[]")); } catch { return new Set(); } };
const files = [...document.querySelectorAll("section.file[data-digest]")];
const showViewed = () => {
  const known = viewed();
  let n = 0;
  for (const file of files) {
    const is = known.has(file.dataset.digest);
    if (is) n += 1;
    file.classList.toggle("is-viewed", is);
    $(".viewed input", file).checked = is;
    $(".viewed", file).hidden = false;
  }
  if (files.length) $("#viewed").textContent = `${n} of ${files.length} viewed`;
};
showViewed();
for (const file of files) {
  $(".viewed input", file).addEventListener("change", (event) => {
    const known = viewed();
    if (event.target.checked) known.add(file.dataset.digest); else known.delete(file.dataset.digest);
    // The newest are kept: a browser has a limit.
    try { localStorage.setItem(VIEWED, JSON.stringify([...known].slice(-2000))); } catch { return; }
    showViewed();
  });
}

// --- menus and keys -----------------------------------------------------------------------------------------------

document.addEventListener("click", (event) => {
  for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
});

let row = -1;
const rows = () => [...document.querySelectorAll("[data-row], section.file, .question.card")];
const mark = () => rows().forEach((r, n) => r.classList.toggle("at", n === row));
const move = (by) => {
  const all = rows();
  if (!all.length) return;
  row = Math.min(Math.max(row + by, 0), all.length - 1);
  mark();
  all[row].scrollIntoView({ block: "nearest" });
  $("a, button, summary", all[row])?.focus({ preventScroll: true });
};
const go = { i: "/", r: "/runs", p: "/projects", d: "/deployments", s: "/spending", e: "/agents", a: "/audit", c: "/settings" };
const keys = [
  ["g then i r p d s e a c", "inbox, runs, projects, deployments, spending, agents, audit, settings"], ["n", "new run"], ["j k", "next, previous row, file or question"],
  ["Enter", "open"], ["1 … 5", "pages of a run"], ["x", "unified or side by side"], ["v", "file viewed"],
  ["c", "to the line numbers of a file; ↑ ↓ choose, Enter comments"], ["d", "to the reason of a decline"],
  ["/", "filter"], ["Ctrl or ⌘ K", "command menu: pages, projects, runs, and what can be done here"], ["?", "this list"], ["Esc", "close"],
];

/** Opens a dialog with a heading, unless one is open. @param {string} title @param {(Node|string)[]} content */
const open = (title, className, ...content) => {
  if ($("dialog[open]")) return null;
  const heading = make("h2", { id: "dialog-title" }, title);
  const dialog = make("dialog", { className }, heading, ...content);
  dialog.setAttribute("aria-labelledby", heading.id);
  dialog.addEventListener("close", () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
  return dialog;
};

// Keys of one letter can be switched off, for people whose voice or hand presses them by accident.
const KEYS_OFF = "skep-keys-off";
const areKeysOff = () => { try { return localStorage.getItem(KEYS_OFF) !== null; } catch { return false; } };
const help = () => {
  const table = make("table");
  for (const [key, what] of keys) {
    const line = table.insertRow();
    line.insertCell().append(make("kbd", {}, key));
    line.insertCell().append(what);
  }
  const single = make("input", { type: "checkbox", checked: !areKeysOff() });
  single.addEventListener("change", () => {
    try { if (single.checked) localStorage.removeItem(KEYS_OFF); else localStorage.setItem(KEYS_OFF, "1"); } catch { single.checked = true; }
  });
  const close = make("button", { className: "button" }, "Close");
  close.addEventListener("click", () => close.closest("dialog").close());
  open("Keys", "keys", table, make("label", { className: "check" }, single, " Keys of one letter"), close);
};

// --- command menu: the list of /menu, and what can be done on this page ---------------------------------------------

/** Returns the controls of this page by name. A link is followed; on any other, the focus is put, so that nothing is sent
 * by a slip. */
const controls = () => {
  const all = document.querySelectorAll("main :is(a.button, .tabs a, button[type=submit], summary), #reason");
  const named = [...all].filter((node) => node.checkVisibility()).map((node) => {
    const own = (node.ariaLabel || (node.id && $(`label[for=${node.id}]`)?.textContent) || node.textContent).trim().replace(/\s+/g, " ");
    const of = node.closest(".question, .file, section, details.menu")?.querySelector("h2, h3, summary")?.textContent.trim() ?? "";
    return { node, name: own.slice(0, 80), of: of === own ? "" : of.slice(0, 80) };
  });
  return named.filter(({ name }) => name !== "");
};

const command = () => {
  const input = make("input", { maxLength: 100, autocomplete: "off", placeholder: "Page, project, run or action" });
  input.setAttribute("aria-label", input.placeholder);
  const found = make("div", { className: "found" });
  const count = make("p", { className: "quiet" }, "↑ ↓ choose, Enter opens, Esc closes");
  const dialog = open("Find", "command", input, found, count);
  if (!dialog) return;
  const all = controls();
  const entries = () => [...found.querySelectorAll(".entries :is(a, button)")];
  const act = (node) => {
    dialog.close();
    if (node.matches("a")) { node.click(); return; }
    node.scrollIntoView({ block: "center" });
    node.focus();
  };
  const here = (words) => {
    const list = make("ul", { className: "plain entries" });
    const actions = all.map(({ node, name, of }) => ({ name, of, run: () => act(node) }));
    actions.push({ name: "List of keys", of: "", run: () => { dialog.close(); help(); } });
    const fits = actions.filter(({ name, of }) => words.every((word) => `${name} ${of}`.toLowerCase().includes(word)));
    for (const { name, of, run } of fits.slice(0, 8)) {
      const button = make("button", { className: "text", type: "button" }, name);
      button.addEventListener("click", run);
      list.append(make("li", {}, button, " ", make("span", { className: "quiet" }, of)));
    }
    return fits.length ? [make("section", {}, make("h3", {}, "On this page"), list)] : [];
  };
  let asked = 0;
  let shown = -1;
  const ask = async () => {
    const mine = asked += 1;
    const text = input.value.trim();
    try {
      const reply = await fetch(`/menu?q=${encodeURIComponent(text)}`, { redirect: "manual" });
      if (!reply.ok || mine < shown) return;
      const list = $("#found", parsed(await reply.text()));
      if (mine < shown) return;
      shown = mine;
      for (const title of list.querySelectorAll("h2")) title.replaceWith(make("h3", {}, title.textContent));
      for (const part of list.querySelectorAll("section")) part.removeAttribute("aria-labelledby");
      const first = here(text.toLowerCase().split(/\s+/));
      const groups = text ? [...first, ...list.children] : [...list.children, ...first];
      const at = entries().indexOf(document.activeElement);
      found.replaceChildren(...groups);
      if (at >= 0) (entries()[at] ?? input).focus();
      say(`${entries().length} found`);
    } catch { found.replaceChildren("Not connected"); }
  };
  input.addEventListener("input", ask);
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    const places = [input, ...entries()];
    if (by) {
      event.preventDefault();
      places[(places.indexOf(document.activeElement) + by + places.length) % places.length].focus();
    } else if (event.key === "Enter" && document.activeElement === input) {
      event.preventDefault();
      // What is on its way counts, not what is still shown.
      ask().then(() => entries()[0]?.click());
    } else if (event.key.length === 1 && document.activeElement !== input && !event.ctrlKey && !event.metaKey && event.key !== " ") input.focus();
  });
  input.focus();
  ask();
};
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-menu]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  command();
});

let waiting = false;
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) { menu.open = false; $("summary", menu).focus(); }
  if ((event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && event.key.toLowerCase() === "k") { event.preventDefault(); command(); return; }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select, dialog") || areKeysOff()) return;
  const { key } = event;
  if (waiting) { waiting = false; if (go[key]) { event.preventDefault(); location.href = go[key]; } return; }
  const act = {
    g: () => { waiting = true; setTimeout(() => { waiting = false; }, 1500); },
    n: () => { location.href = "/runs/new"; },
    j: () => move(1),
    k: () => move(-1),
    x: () => $(".switch a:not([aria-current])")?.click(),
    d: () => { const place = $("#reason") ?? $("details.answer"); place?.scrollIntoView({ block: "center" }); if (place?.matches("details")) { place.open = true; $("textarea", place)?.focus(); } else place?.focus(); },
    v: () => $(".viewed input", rows()[Math.max(row, 0)])?.click(),
    c: () => $(".diff .n a", rows()[Math.max(row, 0)])?.focus(),
    "/": () => $("main input, main select")?.focus(),
    "?": help,
  }[key] ?? (/^[1-5]$/.test(key) && $(".tabs") ? () => $(`.tabs a:nth-child(${key})`)?.click() : undefined);
  if (act) { event.preventDefault(); act(); }
});
