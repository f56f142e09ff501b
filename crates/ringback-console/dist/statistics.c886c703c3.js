import { useEffect, useState } from "./preact-hooks.ceebd18b27.js";
import { go, link, place, query, showCount, t, word } from "./state.098059260a.js";
import { AgentLink, Alert, Empty, Field, Page, html, useAnswer } from "./ui.e645c1d396.js";
import { follow } from "./live.7da3023c38.js";
const outcomes = ["callback", "default", "fallback", "refused"];
const SECONDS = 60;
const day = (date) => date.toISOString().slice(0, 10);
function Minute() {
const [state, set] = useState({ seconds: [], state: "waiting" });
useEffect(() => {
let now = Object.fromEntries(outcomes.map((name) => [name, 0]));
const timer = setInterval(() => {
const second = now;
now = Object.fromEntries(outcomes.map((name) => [name, 0]));
set((old) => ({ ...old, seconds: [...old.seconds, second].slice(-SECONDS) }));
}, 1000);
const stop = follow({
wanted: (text) => {
const at = text.indexOf('"outcome":"') + 11;
const name = text.slice(at, text.indexOf('"', at));
if (name in now) now[name] += 1;
return false;
},
show: () => {},
state: (state) => set((old) => ({ ...old, state })),
});
return () => { clearInterval(timer); stop(); };
}, []);
const sums = Object.fromEntries(outcomes.map((name) => [name, state.seconds.reduce((sum, second) => sum + second[name], 0)]));
const totals = state.seconds.map((second) => outcomes.reduce((sum, name) => sum + second[name], 0));
const most = Math.max(4, ...totals);
const width = 600;
const height = 120;
const bar = width / SECONDS;
return html`<section><h2>${t("statistics.minute")}</h2>
<p class="live ${state.state}"><span class="dot" aria-hidden="true"></span>${t("live." + state.state)}
<span class="quiet"> ${t("live.rate", { rate: showCount(totals.length ? totals.reduce((sum, count) => sum + count, 0) / totals.length : 0) })}</span></p>
<svg class="chart" viewBox="0 0 ${width} ${height}" preserveAspectRatio="none" aria-hidden="true">${state.seconds.map((second, index) => {
let top = height;
return outcomes.map((name) => {
const tall = (second[name] / most) * height;
top -= tall;
return tall > 0 && html`<rect class=${name} x=${(SECONDS - state.seconds.length + index) * bar} y=${top} width=${bar - 1} height=${tall} />`;
});
})}</svg>
<table class="rows small"><caption class="hidden">${t("statistics.minute")}</caption><thead><tr><th scope="col">${t("column.outcome")}</th><th scope="col">${t("column.calls")}</th></tr></thead>
<tbody>${outcomes.map((name) => html`<tr><td data-label=${t("column.outcome")}><span class="outcome ${name}">${word("outcome", name)}</span></td><td data-label=${t("column.calls")}>${showCount(sums[name])}</td></tr>`)}</tbody></table></section>`;
}
export default function Statistics() {
const { params } = place.value;
const today = new Date();
const start = params.start ?? day(new Date(today - 30 * 86_400_000));
const end = params.end ?? day(today);
const { busy, answer, failure } = useAnswer("/callback-agents/stats" + query({ start_date: start, end_date: end }));
const data = answer?.data;
const sources = data?.callbacks_by_source_agent ?? [];
const most = Math.max(1, ...sources.map(({ count }) => count));
const submit = (event) => { event.preventDefault(); go(link("statistics", Object.fromEntries(new FormData(event.target)))); };
const days = (count) => link("statistics", { start: day(new Date(today - count * 86_400_000)), end: day(today) });
return html`<${Page} title=${t("statistics.title")} busy=${busy}>
<form class="search" onSubmit=${submit} key=${start + end}>
<${Field} label=${t("find.since")}><input type="date" name="start" required defaultValue=${start} /><//>
<${Field} label=${t("find.until")}><input type="date" name="end" required defaultValue=${end} /><//>
<p class="buttons"><button class="primary">${t("statistics.show")}</button>${[7, 30, 90].map((count) => html`<a class="button" href=${days(count)}>${t("statistics.days", { count })}</a>`)}</p></form>
<${Alert} failure=${failure} />
${data && html`<section><h2>${t("statistics.callbacks", { start: data.period.start, end: data.period.end })}</h2>
<dl class="facts"><dt>${t("statistics.received")}</dt><dd>${showCount(data.total_callbacks_received)}</dd><dt>${t("statistics.answered")}</dt><dd>${showCount(data.callbacks_answered)}</dd>
<dt>${t("statistics.unmatched")}</dt><dd>${showCount(data.callbacks_unmatched)}</dd></dl>
${sources.length ? html`<table class="rows bars"><caption>${t("statistics.by_source")}</caption><thead><tr><th scope="col">${t("column.source")}</th><th scope="col">${t("outcome.callback")}</th></tr></thead>
<tbody>${sources.slice(0, 100).map(({ source_agent_id: id, name, count }) => html`<tr key=${id}><td data-label=${t("column.source")}><${AgentLink} agent=${{ id, name }} /></td>
<td data-label=${t("outcome.callback")}><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect class="callback" width=${(100 * count) / most} height="10" /></svg> ${showCount(count)}</td></tr>`)}</tbody></table>`
: html`<${Empty}>${t("statistics.none")}<//>`}</section>`}
<${Minute} /><//>`;
}
