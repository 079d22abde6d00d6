"use strict";
const part = name => document.getElementById(name);
const prompts = new Map();
const suffixes = {csv: "text/csv", tsv: "text/tab-separated-values", jsonl: "application/x-ndjson", ndjson: "application/x-ndjson",
  parquet: "application/vnd.apache.parquet", xlsx: "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"};
const previewed = 20;
let limits = {};
let coverage = null;
let busy = false;
let scored = null;

const number = value => String(Math.round(value * 100) / 100);
const points = prompt => `${number(prompt.low)} to ${number(prompt.high)}` + (prompt.step === 1 ? "" : ` in steps of ${number(prompt.step)}`);

// Whatever comes from the server or its user is put in as text, never as html.
function say(name, words) {
  part(name).textContent = words;
  part(name).hidden = words === "";
}

function complain(words, field = "text") {
  say("fault", words);
  for (const name of ["text", "file"]) part(name).toggleAttribute("aria-invalid", words !== "" && name === field);
}

async function fetched(address, options) {
  let response;
  try {
    response = await fetch(address, {cache: "no-store", credentials: "omit", redirect: "error", ...options});
  } catch {
    throw new Error("The server does not answer. Look whether it is running, then try again.");
  }
  if (response.ok) return response;
  const answer = await response.json().catch(() => null);
  throw new Error(answer && typeof answer.detail === "string" ? answer.detail : `The server answered ${response.status}.`);
}

const ask = async (address, options) => (await fetched(address, options)).json();

// What the row says of one score: of the only one, or of a trait.
function answered(row, trait, scale) {
  const own = trait === null ? name => row[name] : name => row[name === "score" ? trait : `${trait}_${name}`];
  const has = name => typeof own(name) === "number";
  return {trait, scale, score: own("score"), raw: own("raw"), reported: own("reported"), low: own("low"), high: own("high"), certainty: own("certainty"),
    given: has("score") && row.withheld !== true, bounded: has("low") && has("high"), words: (scale.levels || {})[number(own("score") ?? NaN)]};
}

// A trait's name and score, a bar with its interval, and the rubric's words.
function drawn(one) {
  const list = document.createElement("dl"), head = document.createElement("dt"), place = value => `${100 * (value - one.scale.low) / (one.scale.high - one.scale.low)}%`;
  list.className = "trait";
  for (const words of [one.trait, `${number(one.score)} (${number(one.scale.low)} to ${number(one.scale.high)})${one.reported == null ? "" : `, reported as ${number(one.reported)}`}`]) {
    head.append(Object.assign(document.createElement("span"), {textContent: words}));
  }
  const bar = document.createElement("span"), reach = document.createElement("span"), mark = document.createElement("span");
  bar.className = "bar";
  if (one.bounded) {
    reach.style.left = place(one.low);
    reach.style.width = `${100 * (one.high - one.low) / (one.scale.high - one.scale.low)}%`;
  }
  mark.style.left = place(one.score);
  bar.append(reach, mark);
  const said = document.createElement("dd");
  said.textContent = [one.words, one.bounded ? `Interval: ${number(one.low)} to ${number(one.high)}.` : "",
    typeof one.certainty === "number" ? `Chance that a human gives the same: ${Math.round(one.certainty * 100)} %.` : ""].filter(words => words).join(" ");
  const track = document.createElement("dd");
  track.append(bar);
  list.append(head, track, said);
  return list;
}

function show(row, prompt) {
  const traits = Object.entries(prompt.traits || {}), several = traits.length > 0;
  const all = (several ? traits : [[null, prompt]]).map(([trait, scale]) => answered(row, trait, scale));
  const shown = all.filter(one => one.given), given = shown.length > 0, single = several ? null : all[0];
  say("answer-title", given ? (several ? "Scores" : "Score") : "No score");
  say("score", given && single ? number(row.score) : "");
  say("scale", given ? (single ? `on a scale of ${points(prompt)}${single.words ? `: ${single.words}` : ""}` : "") : "The score is withheld, for the reasons below.");
  part("traits").replaceChildren(...(several ? shown.map(drawn) : []));
  const bounded = shown.some(one => one.bounded);
  const ends = single && single.bounded ? `Interval: ${number(row.low)} to ${number(row.high)}. ` : "";
  say("interval", bounded
    ? `${ends}For ${Math.min(99.9, Math.round(coverage * 1000) / 10)} of 100 essays like those that the model was tried on, the human score lies in such an interval.`
    : given ? "No interval: the model was tried on too few essays to tell how far off it is." : "");
  const kinds = row.advisories || [], reasons = row.reasons || [];
  say("kinds", kinds.map(kind => kind.replaceAll("_", " ")).join(", "));
  part("reasons").replaceChildren(...reasons.map(reason => {
    const item = document.createElement("li");
    item.textContent = reason;
    return item;
  }));
  part("advice").hidden = kinds.length + reasons.length === 0;
  const more = [];
  if (given && single && typeof row.reported === "number") more.push(`Reported as ${number(row.reported)}.`);
  if (given && single && typeof row.raw === "number") more.push(`Before rounding: ${number(row.raw)}.`);
  if (given && single && typeof row.certainty === "number") more.push(`Chance that a human gives the same score: ${Math.round(row.certainty * 100)} %.`);
  if (row.dropped_tokens) more.push(`The model read only the beginning: ${row.dropped_tokens} tokens at the end were left out.`);
  say("more", more.join(" "));
  part("ask-why").hidden = !given;
  part("answer").hidden = false;
  part("answer").focus({preventScroll: true});
  part("answer").scrollIntoView({block: "nearest"});
}

const figure = value => value.toFixed(3).replace("-", "\u2212");
const signed = value => Number(value.toFixed(3)) === 0 ? "0.000" : (value > 0 ? "+" : "") + figure(value);
const made = (kind, name, words) => Object.assign(document.createElement(kind), {className: name, textContent: words});
const shares = [0.15, 0.4, 0.75];

// How much a value is of the largest one, from -3 to 3, and its mark.
const levelOf = (value, largest) => largest > 0 ? Math.sign(value) * shares.filter(share => Math.abs(value) >= share * largest).length : 0;
const markOf = level => `mark ${level ? `${level > 0 ? "adds" : "takes"}-${Math.abs(level)}` : "plain"}`;

// What the marks mean, for those that are there.
function keyOf(levels, largest) {
  const list = made("ul", "key", ""), bounds = shares.map(share => figure(share * largest));
  const sizes = [`less than ${bounds[0]} either way`, `${bounds[0]} to ${bounds[1]}`, `${bounds[1]} to ${bounds[2]}`, `${bounds[2]} or more`];
  for (const level of [...new Set(levels)].sort((a, b) => b - a)) {
    list.append(made("li", markOf(level), (level ? (level > 0 ? "adds " : "takes away ") : "") + sizes[Math.abs(level)]));
  }
  list.setAttribute("aria-label", "Marks, in score points");
  return list;
}

// The essay with its sentences tinted by what they add to one score.
function markedText(sentences, contributions) {
  const text = made("p", "marked", ""), largest = Math.max(...contributions.map(Math.abs), 0);
  const levels = contributions.map(value => levelOf(value, largest));
  sentences.forEach((sentence, place) => {
    const words = sentence.text.trimEnd(), mark = made("span", markOf(levels[place]), words);
    mark.tabIndex = 0;
    mark.append(made("small", "", signed(contributions[place])));
    text.append(mark, sentence.text.slice(words.length));
  });
  return levels.some(level => level) ? [keyOf(levels, largest), text] : [text];
}

// What groups of features add, from an average essay to this one.
function partTable(one) {
  const table = made("table", "rows parts", ""), body = document.createElement("tbody"), foot = document.createElement("tfoot");
  const row = (part, name, words) => {
    const line = part.insertRow();
    line.append(Object.assign(made("th", "", name), {scope: "row"}), made("td", "figure", words));
  };
  const names = table.createTHead().insertRow();
  names.append(...["Group of features", "Adds (points)"].map((name, place) => Object.assign(made("th", place ? "figure" : "", name), {scope: "col"})));
  row(body, "an average essay", figure(one.features.baseline));
  const groups = Object.entries(one.features.groups).sort((a, b) => Math.abs(b[1]) - Math.abs(a[1]));
  for (const [name, value] of groups) row(body, name.replaceAll("_", " "), signed(value));
  row(foot, "raw prediction", figure(one.raw));
  table.append(body, foot);
  return table;
}

function explained(explanation, one) {
  const body = markedText(explanation.sentences, one.contributions);
  if (one.features) body.push(made("h3", "", "What the model sees"), partTable(one));
  if (one.next_point) {
    const {distance, score} = one.next_point;
    body.push(made("h3", "", "What would change the score"), made("p", "", `${figure(distance)} more in the raw prediction would give the score ${number(score)}.`));
  }
  return body;
}

function showWhy(explanation) {
  const scores = explanation.scores, tabs = scores.length < 2 ? [] : scores.map(one => Object.assign(made("button", "second", one.trait), {type: "button"}));
  const choose = place => {
    tabs.forEach((tab, other) => tab.setAttribute("aria-pressed", String(other === place)));
    part("why-body").replaceChildren(...explained(explanation, scores[place]));
  };
  tabs.forEach((tab, place) => tab.addEventListener("click", () => choose(place)));
  part("why-tabs").replaceChildren(...tabs);
  choose(0);
  part("ask-why").hidden = true;
  part("why").hidden = false;
  part("why").focus({preventScroll: true});
  part("why").scrollIntoView({block: "nearest"});
}

async function why() {
  if (busy || !scored) return;
  busy = true;
  part("ask-why").setAttribute("aria-disabled", "true");
  part("ask-why").textContent = "Explaining …";
  complain("");
  try {
    const answer = await ask("explain", {method: "POST", headers: {"Content-Type": "application/json"}, body: scored});
    showWhy(answer.explanations[0]);
  } catch (error) {
    complain(error.message);
  } finally {
    busy = false;
    part("ask-why").removeAttribute("aria-disabled");
    part("ask-why").textContent = "Why?";
  }
}

async function score() {
  const text = part("text").value, prompt = prompts.get(part("prompt").value);
  if (busy) return;
  if (!text.trim()) {
    complain("There is no essay. Paste one into the field above.");
    part("text").focus();
    return;
  }
  if (!prompt) {
    complain("There is no prompt. Load the page again once the server is up.");
    return;
  }
  busy = true;
  part("go").setAttribute("aria-disabled", "true");
  complain("");
  part("answer").hidden = part("why").hidden = true;
  try {
    const body = JSON.stringify({essays: [{prompt_id: prompt.prompt_id, text: text.toWellFormed ? text.toWellFormed() : text}]});
    const answer = await ask("score", {method: "POST", headers: {"Content-Type": "application/json"}, body});
    scored = body;
    show(answer.scores[0], prompt);
  } catch (error) {
    complain(error.message);
  } finally {
    busy = false;
    part("go").removeAttribute("aria-disabled");
  }
}

// Rows of csv as the server writes it, as objects.
function parsedCsv(text) {
  const rows = [[""]];
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const sign = text[at], row = rows[rows.length - 1], last = row.length - 1;
    if (quoted && sign === '"' && text[at + 1] === '"') row[last] += text[++at];
    else if (sign === '"') quoted = !quoted;
    else if (sign === "," && !quoted) row.push("");
    else if (sign === "\n" && !quoted) rows.push([""]);
    else row[last] += sign;
  }
  const [header, ...cells] = rows.slice(0, -1);
  return cells.map(row => Object.fromEntries(header.map((name, place) => [name, row[place]])));
}

const parsed = {csv: parsedCsv, jsonl: text => text.split("\n").filter(line => line).map(line => JSON.parse(line)), parquet: () => null};
const blank = value => value === undefined || value === null || value === "";

// A column of numbers with one number of decimals, so that their points stand below each other.
function figures(rows, name) {
  const values = rows.map(row => blank(row[name]) ? null : Math.round(Number(row[name]) * 100) / 100);
  const digits = Math.max(0, ...values.filter(value => value !== null).map(value => (String(value).split(".")[1] || "").length));
  return values.map(value => value === null ? "\u2013" : value.toFixed(digits));
}

// A row and, below it, its advisories: on a phone there is no room beside it.
function preview(rows) {
  const traits = [...new Set([...prompts.values()].flatMap(prompt => Object.keys(prompt.traits || {})))];
  const numbers = (traits.length ? traits : ["score", "low", "high"]).filter(name => rows.some(row => !blank(row[name])));
  const columns = [["essay", rows.map(row => row.essay_id), "id"]];
  if (prompts.size > 1) columns.push(["prompt", rows.map(row => row.prompt_id), "id"]);
  for (const name of numbers) columns.push([name, figures(rows, name), "figure"]);
  const head = document.createElement("thead"), names = head.insertRow();
  for (const [name, , kind] of columns) names.append(Object.assign(made("th", kind, name), {scope: "col"}));
  part("rows").replaceChildren(head, ...rows.map((row, place) => {
    const body = document.createElement("tbody"), line = body.insertRow();
    for (const [, values, kind] of columns) line.append(made("td", kind, values[place]));
    if (isAdvised(row)) body.insertRow().append(Object.assign(made("td", "said", advice(row)), {colSpan: columns.length}));
    return body;
  }));
}

const isWithheld = row => row.withheld === true || row.withheld === "true";
const kinds = row => [].concat(row.advisories || []).join(", ").replaceAll("; ", ", ").replaceAll("_", " ");
const isAdvised = row => kinds(row) !== "";
const advice = row => (isWithheld(row) ? "no score: " : "") + kinds(row);
const counted = (count, thing) => count === 1 ? `1 ${thing}` : `${count} ${thing}s`;

function showTable(rows, blob, name) {
  if (part("save").href) URL.revokeObjectURL(part("save").href);
  Object.assign(part("save"), {href: URL.createObjectURL(blob), download: name, textContent: `Save ${name}`});
  part("rows-frame").hidden = rows === null;
  part("table-answer").hidden = false;
  if (rows === null) {
    say("tally", "The scores are ready.");
    say("rows-hint", "");
  } else {
    const advised = rows.filter(isAdvised), withheld = advised.filter(isWithheld).length, others = advised.length - withheld;
    const also = [withheld ? `${withheld} without a score` : "", others ? `${others} with a score to look at` : ""].filter(words => words);
    say("tally", `${counted(rows.length, "essay")}${also.length ? `, ${also.join(", ")}` : ""}.`);
    preview([...advised, ...rows.filter(row => !isAdvised(row))].slice(0, previewed));
    const wide = part("rows-frame").scrollWidth > part("rows-frame").clientWidth;
    say("rows-hint", [rows.length > previewed ? `${previewed} of ${rows.length} rows${advised.length ? ", those with advisories first" : ""}.` : "",
      wide ? "The table scrolls sideways." : ""].filter(words => words).join(" "));
  }
  part("table-answer").focus({preventScroll: true});
  part("table-answer").scrollIntoView({block: "nearest"});
}

async function scoreTable() {
  const file = part("file").files[0], form = part("format").value;
  if (busy) return;
  const dot = file ? file.name.lastIndexOf(".") : -1, type = file && suffixes[file.name.slice(dot + 1).toLowerCase()];
  const fault = !file ? "There is no table. Choose a file above."
    : !type ? "The file is no table that is read here. Save it as csv, tsv, jsonl, xlsx or parquet."
    : file.size > limits.max_table_body ? `The file is larger than ${megabytes(limits.max_table_body)}, the most that is taken.` : "";
  part("table-answer").hidden = true;
  complain(fault, "file");
  if (fault) {
    part("file").focus();
    return;
  }
  const query = new URLSearchParams({format: form, keep_columns: part("keep").checked});
  if (part("table-prompt").value) query.set("prompt", part("table-prompt").value);
  busy = true;
  part("go-table").setAttribute("aria-disabled", "true");
  part("go-table").textContent = "Scoring …";
  try {
    const blob = await (await fetched(`score-table?${query}`, {method: "POST", headers: {"Content-Type": type}, body: file})).blob();
    showTable(parsed[form](form === "parquet" ? "" : await blob.text()), blob, `${file.name.slice(0, dot)}-scores.${form}`);
  } catch (error) {
    complain(error.message, "file");
  } finally {
    busy = false;
    part("go-table").removeAttribute("aria-disabled");
    part("go-table").textContent = "Score the table";
  }
}

const megabytes = bytes => bytes < 2 ** 20 ? `${Math.floor(bytes / 1024)} KB` : `${Math.floor(bytes / 2 ** 20)} MB`;

function describeTable() {
  const columns = prompts.size > 1 ? "a column text, and prompt_id for the prompt of each" : "a column text";
  const numbers = limits.features.length ? `, and ${limits.features.join(", ")}` : "";
  say("file-hint", `csv, tsv, jsonl, xlsx or parquet: an essay a row, with ${columns}${numbers}. Up to ${limits.max_table_rows.toLocaleString("en")} essays, ${megabytes(limits.max_table_body)}.`);
  part("table-prompt").add(new Option(prompts.size > 1 ? "as the column prompt_id says" : [...prompts.keys()][0], ""));
  if (prompts.size > 1) for (const name of prompts.keys()) part("table-prompt").add(new Option(`${name}, all essays`, name));
  part("table-prompt").parentElement.hidden = prompts.size < 2;
}

// One of both forms is there, with its own answer.
function turnTo(table) {
  if (busy) return;
  part("mode-essay").setAttribute("aria-pressed", String(!table));
  part("mode-table").setAttribute("aria-pressed", String(table));
  part("form").hidden = table;
  part("table-form").hidden = !table;
  for (const name of ["answer", "table-answer", "why"]) part(name).hidden = true;
  complain("");
}

function choose() {
  const prompt = prompts.get(part("prompt").value);
  if (!prompt) { say("prompt-words", ""); return; }
  const traits = Object.keys(prompt.traits || {});
  const scale = traits.length ? `Scored on ${traits.join(", ")}.` : `Scores go from ${points(prompt)}.`;
  say("prompt-words", [prompt.text || "", scale].filter(words => words).join("\n"));
}

function count() {
  const words = (part("text").value.match(/\S+/g) || []).length;
  part("count").textContent = words === 1 ? "1 word." : `${words} words.`;
}

async function begin() {
  try {
    const health = await ask("health");
    coverage = health.coverage;
    limits = health;
    for (const prompt of health.prompts) {
      prompts.set(prompt.prompt_id, prompt);
      part("prompt").add(new Option(prompt.prompt_id, prompt.prompt_id));
    }
    say("facts", `Model ${health.model} · ${prompts.size === 1 ? "1 prompt" : `${prompts.size} prompts`}`);
    choose();
    describeTable();
  } catch (error) {
    say("facts", "");
    complain(error.message);
  }
}

part("form").addEventListener("submit", event => { event.preventDefault(); score(); });
part("text").addEventListener("keydown", event => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); score(); }
});
part("text").addEventListener("input", count);
part("ask-why").addEventListener("click", why);
part("table-form").addEventListener("submit", event => { event.preventDefault(); scoreTable(); });
part("mode-essay").addEventListener("click", () => turnTo(false));
part("mode-table").addEventListener("click", () => turnTo(true));
part("prompt").addEventListener("change", choose);
count();
begin();
