// Who changed what: each object before and after, as differences; what is one change is undone here.
import { useEffect, useState } from "preact/hooks";
import { ask, go, isAdministrator, link, place, query, session, showDuration, t, word } from "./state.js";
import { local } from "./find.js";
import { AgentName, Alert, Confirm, Empty, Field, Name, Page, Time, html, useAnswer } from "./ui.js";

const types = ["agent", "number", "role", "environment", "token", "contact", "cluster"];
// What every object has, and what says the same as another field.
const passedOver = new Set(["id", "created_at", "updated_at", "formatted_number"]);
// The words for a field, which other views use too.
const names = {
  name: "field.name", label: "field.label", description: "field.description", direction: "field.direction", current_status: "field.status", phone_numbers: "field.numbers", targets: "field.targets",
  number: "field.number", country_code: "field.country", default_country: "field.country", agents: "field.agents", default_agent_id: "number.default", source_agent_ids: "field.sources", callback_trigger_statuses: "field.statuses",
  recency_window_seconds: "field.window", number_form: "environment.form", target_template: "environment.template", fallback_targets: "environment.fallback",
};
const fieldName = (name) => (names[name] ? t(names[name]) : name.replaceAll("_", " "));
// How many values of a field are shown.
const SHOWN = 12;

const isBlank = (value) => value === undefined || value === null || value === "" || (Array.isArray(value) && !value.length);
const isSame = (left, right) => (isBlank(left) && isBlank(right)) || JSON.stringify(left) === JSON.stringify(right);
const fields = ({ callback_config: role, ...state }) => ({ ...state, ...role });

// The fields that differ, each with the values that went and those that came.
function differences(entry) {
  const [before, after] = [fields(entry.before ?? {}), fields(entry.after ?? {})];
  const all = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  return all.filter((name) => !passedOver.has(name) && !isSame(before[name], after[name])).map((name) => {
    const [old, now] = [before[name], after[name]].map((value) => (isBlank(value) ? [] : [value].flat()));
    const without = (list, other) => list.filter((value) => !other.some((one) => isSame(one, value)));
    const [gone, come] = [without(old, now), without(now, old)];
    // Of a list that is in another order all of it is shown.
    return gone.length + come.length ? { name, gone, come } : { name, gone: old, come: now };
  });
}

function Value({ name, value }) {
  if (name === "recency_window_seconds") return showDuration(value);
  if (name === "default_agent_id" || name === "source_agent_ids") return html`<a href=${link("manage", { section: "agents", id: value })}><${AgentName} id=${value} /></a>`;
  const kind = { direction: "direction", current_status: "agent_status", callback_trigger_statuses: "status" }[name];
  if (kind) return word(kind, value);
  if (typeof value !== "object") return html`<${Name}>${value}<//>`;
  const { uri, priority, weight } = value;
  return html`<${Name}>${uri ? [uri, priority, weight].filter((part) => part).join(" ") : value.number ?? value.name ?? JSON.stringify(value)}<//>`;
}

const Values = ({ name, values, gone }) => values.slice(0, SHOWN).map((value) => {
  const text = html`<span class="hidden">${t(gone ? "audit.gone" : "audit.come")} </span><${Value} name=${name} value=${value} />`;
  return gone ? html`<del>${text}</del> ` : html`<ins>${text}</ins> `;
});

function Differences({ entry }) {
  const all = differences(entry);
  if (!all.length) return "";
  const list = html`<ul class="differences">${all.map(({ name, gone, come }) => html`<li><b>${fieldName(name)}</b> <${Values} name=${name} values=${gone} gone=${true} /><${Values} name=${name} values=${come} />
    ${Math.max(gone.length, come.length) > SHOWN && html`<span class="quiet">${t("problems.more", { count: Math.max(0, gone.length - SHOWN) + Math.max(0, come.length - SHOWN) })}</span>`}</li>`)}</ul>`;
  // A change is shown; of what was made or deleted with many fields, all is there on request.
  return (entry.before && entry.after) || all.length < 4 ? list : html`<details><summary>${t("audit.all", { count: all.length })}</summary>${list}</details>`;
}

function Actor({ actor }) {
  if (actor.kind === "administrator") return t("audit.administrator");
  return actor.name ? html`<${Name}>${actor.name}<//>` : html`<span class="quiet">${t("token.nameless")}</span>`;
}

const sections = { agent: "agents", role: "agents", number: "numbers", environment: "environments", token: "tokens" };

function Thing({ entry }) {
  const { type, id, name } = entry.object;
  const shown = name === null ? "" : html`<${Name}>${name}<//>`;
  const section = entry.after && sections[type];
  const isOpen = section && (isAdministrator.value || !["environment", "token"].includes(type));
  return html`${word("object", type)} ${isOpen ? html`<a href=${link("manage", { section, id: type === "token" ? "" : id })}>${shown}</a>` : shown}`;
}

export default function Audit() {
  const { params } = place.value;
  const { type, actor, since, until, object } = params;
  const filter = { type, actor, since, until, object };
  const path = "/audit" + query({ ...filter, limit: 50 });
  const { busy, answer, failure, again } = useAnswer(path);
  const [more, addMore] = useState({ rows: [] });
  const [problem, tell] = useState();
  const [done, say] = useState();
  const [asked, choose] = useState();
  const [open] = useState(matchMedia("(min-width: 60rem)").matches);
  useEffect(() => { addMore({ rows: [] }); tell(); }, [path, answer]);
  const rows = [...(answer?.data ?? []), ...more.rows];
  const cursor = more.rows.length ? more.cursor : answer?.meta.next_cursor;
  // Those who changed something that is shown can be chosen.
  const actors = new Map(rows.filter((entry) => entry.actor.id).map((entry) => [entry.actor.id, entry.actor.name ?? t("token.nameless")]));
  if (actor && actor !== "administrator" && !actors.has(actor)) actors.set(actor, actor);
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const time = (name) => (form.get(name) ? new Date(form.get(name)).toISOString() : "");
    go(link("audit", { type: form.get("type"), actor: form.get("actor"), since: time("since"), until: time("until"), object }));
  };
  const undo = () => {
    const { id } = asked;
    choose();
    say();
    tell();
    ask(`/audit/${id}/undo`, { method: "POST" }).then(() => { say(t("audit.undone")); again(); }, tell);
  };
  const loadMore = () => ask("/audit" + query({ ...filter, limit: 50, cursor })).then(
    ({ data, meta }) => addMore((old) => ({ rows: [...old.rows, ...data], cursor: meta.next_cursor })), tell);
  const what = (entry) => `${word("action", entry.action)} · ${word("object", entry.object.type)}`;
  // What only the administrator can do, only the administrator can undo.
  const canUndo = (entry) => entry.undo && (isAdministrator.value || !["environment", "token"].includes(entry.object.type));

  return html`<${Page} title=${t("audit.title")} busy=${busy} actions=${html`<button onClick=${again}>${t("again")}</button>`}>
    <p>${t(session.value.environment ? "audit.about" : "audit.about.all")}</p>
    <form class="search" role="search" onSubmit=${submit} key=${`${path} ${actors.size}`}>
      <details class="wide" open=${open || Object.values(filter).some(Boolean)}><summary>${t("find.filters")}</summary><div class="fields">
      <${Field} label=${t("audit.object")}><select name="type"><option value="">${t("any")}</option>${types.map((name) => html`<option value=${name} selected=${name === type}>${word("object", name)}</option>`)}</select><//>
      <${Field} label=${t("audit.actor")}><select name="actor"><option value="">${t("any")}</option><option value="administrator" selected=${actor === "administrator"}>${t("audit.administrator")}</option>
        ${[...actors].map(([id, name]) => html`<option value=${id} selected=${id === actor}>${name.slice(0, 80)}</option>`)}</select><//>
      <${Field} label=${t("find.since")}><input type="datetime-local" step="1" name="since" defaultValue=${local(since)} /><//>
      <${Field} label=${t("find.until")}><input type="datetime-local" step="1" name="until" defaultValue=${local(until)} /><//></div></details>
      <p class="buttons"><button class="primary">${t("find.search")}</button><a class="button" href=${link("audit")}>${t("find.clear")}</a></p></form>
    ${object && html`<p class="notice">${t("audit.one")} <a href=${link("audit", { ...filter, object: "" })}>${t("audit.every")}</a></p>`}
    ${done && html`<p role="status" class="done">${done}</p>`}<${Alert} failure=${failure ?? problem} />
    ${answer && !rows.length && html`<${Empty}>${t("audit.none")}<//>`}
    ${rows.length > 0 && html`<table class="rows audit"><caption class="hidden">${t("audit.caption")}</caption>
      <thead><tr>${["column.at", "audit.actor", "audit.what", "audit.object", "audit.differences"].map((key) => html`<th scope="col">${t(key)}</th>`)}<th scope="col"><span class="hidden">${t("audit.undo")}</span></th></tr></thead>
      <tbody>${rows.map((entry) => html`<tr key=${entry.id}><td data-label=${t("column.at")}><${Time} at=${entry.at} /></td>
        <td data-label=${t("audit.actor")}><span><${Actor} actor=${entry.actor} /> <span class="quiet">${word("via", entry.via)}</span></span></td>
        <td data-label=${t("audit.what")}><span class="tag">${word("action", entry.action)}</span></td>
        <td data-label=${t("audit.object")}><span><${Thing} entry=${entry} />${entry.object.id && entry.object.id !== object && html` <a class="quiet" href=${link("audit", { object: entry.object.id })}>${t("audit.history")}<span class="hidden"> <${Name}>${entry.object.name ?? ""}<//></span></a>`}</span></td>
        <td data-label=${t("audit.differences")}><${Differences} entry=${entry} /></td>
        <td>${canUndo(entry) && html`<button onClick=${() => choose(entry)}>${t("audit.undo")}</button>`}</td></tr>`)}</tbody></table>`}
    ${cursor && html`<p><button onClick=${loadMore}>${t("find.more")}</button></p>`}
    <${Confirm} open=${Boolean(asked)} title=${t("audit.undo.title")} text=${asked && html`${what(asked)} <${Name}>${asked.object.name ?? ""}<//>`} action=${t("audit.undo.action")} onYes=${undo} onNo=${() => choose()} /><//>`;
}
