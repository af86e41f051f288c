"use strict";
// The browser of queries. Texts are set as text; only what the report itself rendered is set as HTML.
addEventListener("error", (event) => {
  const fault = document.getElementById("fault");
  fault.hidden = false;
  fault.textContent += `${event.message} (line ${event.lineno})\n`;
});

const { studies, texts } = JSON.parse(document.getElementById("content").textContent);
const form = document.querySelector("#browser form");
const list = document.getElementById("list");
const detail = document.getElementById("detail");
const state = { study: studies[0], mark: new Set(), shown: [], query: null };
const CUTOFF = 25;

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function rendered(number, tag = "div", className = "") {
  const [source, html] = texts[number];
  const made = element(tag, { className });
  if (html === undefined) made.textContent = source;
  else made.innerHTML = html;
  return made;
}

const label = (id) => state.study.labels[id];
const source = (number) => texts[number][0];
const searched = new Map();

function searchable(query) {
  if (!searched.has(query)) {
    const golds = query.golds.map(([id]) => source(label(id)));
    const parts = [query.id, query.subject, query.construct, ...golds];
    for (const part of ["question", "correct", "wrong"]) parts.push(source(query[part]));
    searched.set(query, parts.join("\n").toLowerCase());
  }
  return searched.get(query);
}

function choose(study) {
  state.study = study;
  const subjects = [...new Set(study.queries.map((query) => query.subject))].sort();
  form.subject.replaceChildren(new Option("all", ""), ...subjects.map((subject) => new Option(subject, subject)));
  const counts = study.marks.map((_, i) => study.queries.filter((query) => query.marks.includes(i)).length);
  const chips = study.marks.map((mark, i) => {
    const box = element("input", { type: "checkbox", name: "mark", value: mark });
    return element("label", { className: "chip" }, box, element("span", {}, mark, element("small", {}, ` ${counts[i]}`)));
  });
  document.getElementById("marks").replaceChildren(document.querySelector("#marks legend"), ...chips);
}

function narrow() {
  const find = form.find.value.trim().toLowerCase();
  const wanted = state.study.marks.flatMap((mark, i) => (state.mark.has(mark) ? [i] : []));
  state.shown = state.study.queries.filter(
    (query) =>
      wanted.every((i) => query.marks.includes(i)) &&
      (!form.subject.value || query.subject === form.subject.value) &&
      (!find || searchable(query).includes(find)),
  );
  if (form.order.value !== "given") {
    const sign = form.order.value === "worst" ? 1 : -1;
    state.shown.sort((a, b) => sign * (a.ap - b.ap));
  }
  document.getElementById("count").textContent = `${state.shown.length} of ${state.study.queries.length} queries`;
  list.replaceChildren(
    ...state.shown.map((query) =>
      element(
        "li",
        { id: `query-${query.id}`, role: "option", title: query.construct },
        element("b", {}, query.id),
        element("span", { className: "subject" }, query.subject),
        element("span", { className: "ap" }, query.ap.toFixed(2)),
      ),
    ),
  );
}

function show(query) {
  state.query = query ?? null;
  for (const item of list.querySelectorAll("[aria-selected]")) item.removeAttribute("aria-selected");
  if (!query) {
    detail.replaceChildren(element("p", { className: "note" }, "No query is left by these filters."));
    return;
  }
  const item = list.children[state.shown.indexOf(query)];
  if (item) {
    item.setAttribute("aria-selected", "true");
    list.setAttribute("aria-activedescendant", item.id);
    list.scrollTop += item.getBoundingClientRect().top - list.getBoundingClientRect().top - list.clientHeight / 2;
  }
  const marks = query.marks.map((i) => element("span", { className: "mark" }, state.study.marks[i]));
  detail.replaceChildren(
    element("header", {}, element("h3", {}, query.id), element("span", { className: "ap" }, `AP ${query.ap.toFixed(3)}`), ...marks),
    element("p", { className: "topic" }, `${query.subject} · ${query.construct}`),
    rendered(query.question, "div", "question"),
    element(
      "dl",
      { className: "answers" },
      element("div", { className: "right" }, element("dt", {}, "✓ correct"), rendered(query.correct, "dd")),
      element("div", { className: "wrong" }, element("dt", {}, "✗ given"), rendered(query.wrong, "dd")),
    ),
    golds(query),
    element("div", { className: "tops" }, ...query.tops.map((top, i) => candidates(query, i, top))),
  );
}

function golds(query) {
  const head = element("tr", {}, element("th", {}, "gold, and its rank at"));
  head.append(...state.study.stages.map((stage) => element("th", { className: "number" }, stage)));
  const rows = query.golds.map(([id, ...ranks]) => {
    const row = element("tr", {}, element("th", {}, rendered(label(id), "span"), element("small", {}, ` ${id}`)));
    row.append(
      ...ranks.map((rank) =>
        element("td", { className: rank === 1 ? "number first" : rank && rank <= CUTOFF ? "number" : "number missed" }, rank ?? "–"),
      ),
    );
    return row;
  });
  return element("div", { className: "scroll" }, element("table", { className: "golds" }, element("thead", {}, head), ...rows));
}

function candidates(query, stage, [ids, scores]) {
  const gold = new Set(query.golds.map(([id]) => id));
  const items = ids.map((id, i) =>
    element(
      "li",
      { className: gold.has(id) ? "gold" : "", title: `label ${id}` },
      rendered(label(id), "span", "label"),
      element("span", { className: "score" }, String(scores[i])),
    ),
  );
  const name = element("h4", {}, state.study.stages[stage]);
  return element("section", {}, name, ids.length ? element("ol", {}, ...items) : element("p", { className: "note" }, "no candidates"));
}

// The address: #<query id>?mark=…&subject=…&find=…&order=…&study=…
function write() {
  const told = new URLSearchParams();
  for (const mark of state.mark) told.append("mark", mark);
  for (const name of ["subject", "find"]) if (form[name].value) told.set(name, form[name].value);
  if (form.order.value !== "worst") told.set("order", form.order.value);
  if (state.study !== studies[0]) told.set("study", state.study.name);
  const filters = told.toString();
  history.replaceState(null, "", `#${encodeURIComponent(state.query?.id ?? "")}${filters && `?${filters}`}`);
}

function read() {
  const [id, filters = ""] = location.hash.slice(1).split("?");
  const told = new URLSearchParams(filters);
  form.study.value = told.get("study") ?? studies[0].name;
  choose(studies.find((study) => study.name === told.get("study")) ?? studies[0]);
  for (const name of ["subject", "find"]) form[name].value = told.get(name) ?? "";
  form.order.value = told.get("order") ?? "worst";
  state.mark = new Set(told.getAll("mark"));
  for (const box of form.querySelectorAll("[name=mark]")) box.checked = state.mark.has(box.value);
  narrow();
  const named = state.study.queries.find((query) => query.id === decodeURIComponent(id));
  show(named ?? state.shown[0]);
  if (named) document.getElementById("browser").scrollIntoView();
}

function walk(steps) {
  const place = state.shown.indexOf(state.query) + steps;
  if (place < 0 || place >= state.shown.length) return;
  show(state.shown[place]);
  write();
}

form.study.replaceChildren(...studies.map((study) => new Option(study.name, study.name)));
form.study.closest("label").hidden = studies.length === 1;
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("input", (event) => {
  if (event.target === form.study) choose(studies[form.study.selectedIndex]);
  state.mark = new Set([...form.querySelectorAll("[name=mark]:checked")].map((box) => box.value));
  narrow();
  show(state.shown.includes(state.query) ? state.query : state.shown[0]);
  write();
});
list.addEventListener("click", (event) => {
  const item = event.target.closest("li");
  if (!item) return;
  show(state.shown[[...list.children].indexOf(item)]);
  write();
});
addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select")) return;
  const arrows = event.target === list ? { ArrowDown: 1, ArrowUp: -1 } : {};
  const steps = { j: 1, k: -1, ...arrows }[event.key];
  if (!steps) return;
  event.preventDefault();
  walk(steps);
});
addEventListener("hashchange", () => {
  const [id, filters] = location.hash.slice(1).split("?");
  if (filters !== undefined || !document.getElementById(id)) read();
});
read();
