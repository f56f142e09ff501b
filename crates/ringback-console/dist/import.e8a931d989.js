import { useState } from "./preact-hooks.ceebd18b27.js";
import { ask, Failure, request, showCount, t } from "./state.098059260a.js";
import { Alert, Field, Name, html } from "./ui.e645c1d396.js";
const AT_ONCE = 2000;
const known = ["agent_id", "agent", "to", "from", "status", "started_at", "sid"];
export function readCsv(text) {
const rows = [];
let row = [];
let cell = "";
let quoted = false;
const source = text.replace(/^\ufeff/, "");
const separator = (source.split(/\r?\n/, 1)[0].match(/;/g) ?? []).length > (source.split(/\r?\n/, 1)[0].match(/,/g) ?? []).length ? ";" : ",";
for (let index = 0; index < source.length; index += 1) {
const char = source[index];
if (quoted) {
if (char !== '"') cell += char;
else if (source[index + 1] === '"') { cell += '"'; index += 1; } else quoted = false;
} else if (char === '"' && cell === "") quoted = true;
else if (char === separator) { row.push(cell); cell = ""; }
else if (char === "\n") { row.push(cell.replace(/\r$/, "")); rows.push(row); row = []; cell = ""; }
else cell += char;
}
if (cell || row.length) { row.push(cell.replace(/\r$/, "")); rows.push(row); }
return rows.filter((cells) => cells.some(Boolean));
}
function agentFinder() {
const found = new Map();
return async (name) => {
if (!found.has(name)) {
const { data } = await ask("/agents?" + new URLSearchParams({ search: name, per_page: 100 }));
found.set(name, data.find((agent) => agent.name === name)?.id ?? null);
}
return found.get(name);
};
}
export function Import() {
const [state, set] = useState({});
const [failure, fail] = useState();
const submit = async (event) => {
event.preventDefault();
const file = event.target.elements.file.files[0];
fail();
const rejected = [];
let accepted = 0;
try {
const [header, ...rows] = readCsv(await file.text());
const names = (header ?? []).map((name) => name.trim().toLowerCase());
if (!names.includes("to") || !(names.includes("agent_id") || names.includes("agent"))) throw new Failure(422, { message: t("import.header") });
const find = agentFinder();
for (let start = 0; start < rows.length; start += AT_ONCE) {
const lines = [];
for (const cells of rows.slice(start, start + AT_ONCE)) {
const call = {};
names.forEach((name, column) => { if (known.includes(name) && cells[column]) call[name] = cells[column].trim(); });
if (!call.agent_id && call.agent) call.agent_id = await find(call.agent);
delete call.agent;
lines.push(JSON.stringify(call));
}
const response = await request("/calls/batch", { method: "POST", text: lines.join("\n") });
const answer = await response.json();
if (!response.ok) throw new Failure(response.status, answer);
accepted += answer.data.accepted;
const more = answer.data.rejected - answer.data.errors.length;
rejected.push(...answer.data.errors.map(({ line, message }) => ({ line: start + line + 1, message })), ...(more > 0 ? [{ line: "…", message: showCount(more) }] : []));
set({ done: Math.min(start + AT_ONCE, rows.length), total: rows.length, accepted, rejected: [...rejected] });
}
if (!rows.length) set({ done: 0, total: 0, accepted, rejected });
} catch (error) {
fail(error);
}
};
const { done, total, accepted, rejected = [] } = state;
return html`<p>${t("import.about")}</p><form class="edit" onSubmit=${submit}>
<${Field} label=${t("import.file")} hint=${t("import.columns")}><input type="file" name="file" accept=".csv,text/csv" required /><//><p class="buttons"><button class="primary">${t("import.start")}</button></p></form>
<${Alert} failure=${failure} />
${total !== undefined && html`<section role="status"><p><progress max=${Math.max(total, 1)} value=${done} aria-label=${t("import.progress")}></progress> ${showCount(done)} / ${showCount(total)}</p>
<p>${t("import.accepted", { accepted: showCount(accepted), rejected: showCount(rejected.length) })}</p>
${rejected.length > 0 && html`<table class="rows"><caption>${t("import.rejected")}</caption><thead><tr><th scope="col">${t("import.line")}</th><th scope="col">${t("import.why")}</th></tr></thead>
<tbody>${rejected.slice(0, 200).map(({ line, message }) => html`<tr><td data-label=${t("import.line")}>${line}</td><td data-label=${t("import.why")} lang="en"><${Name}>${message}<//></td></tr>`)}</tbody></table>`}</section>`}`;
}
