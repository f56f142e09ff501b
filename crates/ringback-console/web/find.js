// Decisions: searched, filtered, and as they happen.
import { useEffect, useRef, useState } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { ask, go, isMasked, link, place, query, showCount, t, word } from "./state.js";
import { AgentLink, Alert, Empty, Field, Name, NumberText, Outcome, Page, Time, html, useAnswer } from "./ui.js";
import { follow } from "./live.js";

export const reasons = ["returned_call_same_number", "returned_call", "caller_anonymous", "caller_invalid", "caller_not_verified", "contact_opted_out", "caller_never_called", "contact_reassigned", "source_has_no_callback_agent", "callback_agent_not_owner", "callback_agent_not_published", "callback_agent_closed", "call_expired", "status_not_eligible", "number_unknown", "no_agent_available"];
const outcomes = ["callback", "default", "fallback", "refused"];
const kinds = ["number", "call_id", "agent"];

// What the one box means: digits are a number, a reason is a reason, what has an @ is a Call-ID, the rest an agent.
export function meaning(text) {
  const typed = text.trim();
  if (!typed) return {};
  if (/^\+?[\d\s().-]+$/.test(typed) && typed.replace(/\D/g, "").length >= 3) return { number: typed.replace(/\D/g, "") };
  const reason = reasons.find((name) => name === typed.toLowerCase() || word("reason", name).toLowerCase() === typed.toLowerCase());
  if (reason) return { reason };
  return typed.includes("@") ? { call_id: typed } : { agent: typed };
}

// Whether a decision that happens now is one of those asked for.
function fits(decision, params) {
  const has = (text, part) => (text ?? "").toLowerCase().includes(part.toLowerCase());
  const agents = [decision.agent, decision.source_agent].filter(Boolean);
  return (!params.number || has(decision.to, params.number) || has(decision.from, params.number))
    && (!params.call_id || decision.sid.startsWith(params.call_id))
    && (!params.agent || agents.some(({ id, name }) => id === params.agent || has(name, params.agent)))
    && (!params.reason || params.reason.split(",").includes(decision.reason))
    && (!params.outcome || params.outcome.split(",").includes(decision.outcome));
}

// A time as the field for it wants it.
export const local = (at) => (at ? new Date(new Date(at) - new Date(at).getTimezoneOffset() * 60000).toISOString().slice(0, 19) : "");

const key = (decision) => `${decision.at} ${decision.sid}`;

// One line of a CSV file (RFC 4180); no cell becomes a formula.
export const csvLine = (cells) => cells.map((cell) => {
  const text = String(cell ?? "");
  const safe = /^([=@\t-]|\+(?!\d))/.test(text) ? "'" + text : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}).join(",");

function download(rows) {
  const lines = [["at", "via", "from", "to", "outcome", "reason", "agent", "source_agent", "call_id"],
    ...rows.map((row) => [row.at, row.via, row.from, row.to, row.outcome, row.reason, row.agent?.name ?? row.agent?.id, row.source_agent?.name ?? row.source_agent?.id, row.sid])];
  const url = URL.createObjectURL(new Blob([lines.map(csvLine).join("\r\n") + "\r\n"], { type: "text/csv" }));
  const anchor = document.createElement("a");
  anchor.href = url;
  anchor.download = "decisions.csv";
  anchor.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

export function Row({ decision, fresh }) {
  const { at, from, to, agent, source_agent: source, outcome, reason, sid } = decision;
  return html`<tr class=${fresh ? "fresh" : ""}>
    <td data-label=${t("column.at")}><a class="open" href=${link("explain", { call_id: sid, at })}><${Time} at=${at} /></a></td>
    <td data-label=${t("column.from")}>${from && !isMasked(from) ? html`<a class="number" href=${link("contact", { number: from })}>${from}</a>` : html`<${NumberText}>${from}<//>`}</td>
    <td data-label=${t("column.to")}><${NumberText}>${to}<//></td>
    <td data-label=${t("column.outcome")}><${Outcome} name=${outcome} /></td>
    <td data-label=${t("column.agent")}><${AgentLink} agent=${agent} /></td>
    <td data-label=${t("column.source")}><${AgentLink} agent=${source} /></td>
    <td data-label=${t("column.reason")}>${word("reason", reason)}</td>
    <td data-label=${t("column.sid")}><${Name} title=${sid}>${sid.length > 28 ? sid.slice(0, 28) + "…" : sid}<//></td></tr>`;
}

export const columns = ["at", "from", "to", "outcome", "agent", "source", "reason", "sid"];

export function Find() {
  const { params } = place.value;
  const { number, call_id, agent, reason, outcome, since, until } = params;
  const filter = { number, call_id, agent, reason, outcome, since, until };
  const path = "/decisions" + query({ ...filter, limit: 100 });
  const { busy, answer, failure, again } = useAnswer(path);
  const [more, addMore] = useState({ rows: [] });
  const [live, setLive] = useState({ rows: [], rate: 0, state: "waiting" });
  const paused = useSignal(params.paused === "1");
  const [status, setStatus] = useState();
  const form = useRef();
  const filtered = Boolean(reason || outcome || since || until);
  // Filters take little room: they are folded up on small screens until there are some.
  const [open] = useState(matchMedia("(min-width: 60rem)").matches);

  useEffect(() => { addMore({ rows: [] }); setLive((old) => ({ ...old, rows: [] })); }, [path]);
  useEffect(() => {
    const values = { q: number ?? call_id ?? agent ?? "", outcome: outcome ?? "", reason: reason ?? "", since: local(since), until: local(until) };
    for (const [name, value] of Object.entries(values)) form.current.elements[name].value = value;
  }, [path]);
  useEffect(() => {
    if (paused.value || until) { setLive((old) => ({ ...old, state: "paused", rate: 0 })); return undefined; }
    const isFiltered = Object.values(filter).some(Boolean);
    return follow({
      wanted: (event) => !isFiltered || fits(JSON.parse(event), params),
      show: (rows, rate) => setLive((old) => ({ ...old, rate, rows: rows.length ? [...rows.reverse(), ...old.rows].slice(0, 200) : old.rows })),
      state: (state) => setLive((old) => ({ ...old, state })),
      missed: again,
    });
  }, [path, paused.value]);

  const found = answer?.data ?? [];
  const seen = new Set(live.rows.map(key));
  const rows = [...live.rows, ...[...found, ...more.rows].filter((row) => !seen.has(key(row)))];
  const cursor = more.rows.length ? more.cursor : answer?.meta.next_cursor;

  // Digits may also be a Call-ID, and so may a word: what is found nowhere is looked for there.
  useEffect(() => {
    const other = answer && found.length === 0 && (number ?? agent);
    if (!other || call_id) return;
    ask("/decisions" + query({ call_id: other, limit: 1 })).then(({ data }) => {
      if (data.length) go(link("find", { ...params, number: "", agent: "", call_id: other }), { replace: true });
    }, () => {});
  }, [answer]);

  const search = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const time = (name) => (form.get(name) ? new Date(form.get(name)).toISOString() : "");
    const meant = meaning(form.get("q"));
    const { paused: keep } = params;
    go(link("find", { ...meant, reason: meant.reason ?? form.get("reason"), outcome: form.get("outcome"), since: time("since"), until: time("until"), paused: keep }));
  };
  const kind = kinds.find((name) => params[name]);
  const loadMore = () => ask("/decisions" + query({ ...filter, limit: 100, cursor })).then(
    ({ data, meta }) => addMore((old) => ({ rows: [...old.rows, ...data], cursor: meta.next_cursor })), setStatus);

  return html`<${Page} title=${t("find.title")} busy=${busy}>
    <form class="search" role="search" onSubmit=${search} ref=${form}>
      <${Field} label=${t("find.box")} wide=${true} hint=${kind ? t("find.meant." + kind) : t("find.hint")}>
        <input type="search" name="q" autocomplete="off" spellcheck="false" /><//>
      <details class="wide" open=${open || filtered}><summary>${t("find.filters")}</summary><div class="fields">
      <${Field} label=${t("column.outcome")}><select name="outcome">
        <option value="">${t("any")}</option>${outcomes.map((name) => html`<option value=${name}>${word("outcome", name)}</option>`)}</select><//>
      <${Field} label=${t("column.reason")}><select name="reason">
        <option value="">${t("any")}</option>${reasons.map((name) => html`<option value=${name}>${word("reason", name)}</option>`)}</select><//>
      <${Field} label=${t("find.since")}><input type="datetime-local" step="1" name="since" /><//>
      <${Field} label=${t("find.until")}><input type="datetime-local" step="1" name="until" /><//></div></details>
      <p class="buttons"><button class="primary">${t("find.search")}</button>
        <a class="button" href=${link("find")}>${t("find.clear")}</a></p></form>
    <div class="bar"><p class="live ${live.state}"><span class="dot" aria-hidden="true"></span>${until ? t("live.past") : t("live." + live.state)}
        ${live.state === "live" && live.rate >= 1 ? html` <span class="quiet">${t("live.rate", { rate: showCount(Math.round(live.rate)) })}</span>` : ""}</p>
      <button aria-pressed=${paused.value ? "true" : "false"} disabled=${Boolean(until)} onClick=${() => { paused.value = !paused.value; go(link("find", { ...params, paused: paused.value ? "1" : "" }), { replace: true }); }}>${t("live.pause")}</button>
      <button onClick=${() => download(rows)} disabled=${!rows.length}>${t("find.csv")}</button></div>
    <${Alert} failure=${failure ?? status} />
    ${answer && !rows.length && html`<${Empty}>${t("find.none")}<//>`}
    ${rows.length > 0 && html`<table class="rows decisions"><caption class="hidden">${t("find.caption")}</caption>
      <thead><tr>${columns.map((name) => html`<th scope="col">${t("column." + name)}</th>`)}</tr></thead>
      <tbody>${rows.map((decision) => html`<${Row} key=${key(decision)} decision=${decision} fresh=${seen.has(key(decision))} />`)}</tbody></table>`}
    ${cursor && html`<p><button onClick=${loadMore}>${t("find.more")}</button></p>`}<//>`;
}
export default Find;
