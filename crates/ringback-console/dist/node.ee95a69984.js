import { useEffect } from "./preact-hooks.ceebd18b27.js";
import { isAdministrator, showCount, showDuration, t, word } from "./state.098059260a.js";
import { Alert, Empty, Name, NumberText, Page, Time, html, useAnswer } from "./ui.e645c1d396.js";
const bytes = (count) => (count === null || count === undefined ? "–" : count > 1e9 ? `${showCount(count / 1e9)} GB` : `${showCount(count / 1e6)} MB`);
const Facts = ({ pairs }) => html`<dl class="facts">${pairs.filter(Boolean).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
const Causes = ({ title, causes }) => Object.keys(causes).length > 0 && html`<section><h3>${title}</h3><${Facts} pairs=${Object.entries(causes).map(([cause, count]) => [word("cause", cause), showCount(count)])} /></section>`;
export default function Node() {
const allowed = isAdministrator.value;
const status = useAnswer(allowed ? "/status" : null);
const refused = useAnswer(allowed ? "/refused-calls?limit=100" : null);
const again = () => { status.again(); refused.again(); };
useEffect(() => {
const timer = setInterval(() => { if (!document.hidden && allowed) again(); }, 5000);
return () => clearInterval(timer);
}, [allowed]);
if (!allowed) return html`<${Page} title=${t("node.title")}><${Empty}>${t("node.administrator")}<//><//>`;
const data = status.answer?.data;
const { sip } = data ?? {};
const calls = refused.answer?.data ?? [];
return html`<${Page} title=${t("node.title")} busy=${(status.busy && !data) || (refused.busy && !refused.answer)} actions=${html`<button onClick=${again}>${t("again")}</button>`}>
<${Alert} failure=${status.failure ?? refused.failure} />
${data && html`<section><h2>${t("node.health")}</h2><${Facts} pairs=${[
[t("node.state"), html`<span class="health ${data.health.status}">${word("health", data.health.status)}</span>`],
[t("node.version"), data.version], [t("node.started"), html`<${Time} at=${data.started_at} />`], [t("node.uptime"), showDuration(data.uptime_seconds)],
[t("node.storage"), word("storage", data.health.storage)], [t("node.index"), word("index", data.health.index)],
[t("node.contacts"), showCount(data.counts.contacts)], [t("node.environments"), showCount(data.counts.environments)],
[t("node.agents"), showCount(data.counts.agents)], [t("node.numbers"), showCount(data.counts.phone_numbers)],
data.storage && [t("node.data"), bytes(data.storage.bytes)], data.storage && [t("node.free"), bytes(data.storage.free_bytes)],
...(data.certificates ?? []).map(({ listener, expires_at: at }) => [t("node.certificate", { listener }), html`<${Time} at=${at} />`])]} /></section>`}
${sip && html`<section><h2>SIP</h2><${Facts} pairs=${[[t("node.calls"), showCount(sip.rates.calls_per_second)], [t("node.messages"), showCount(sip.rates.messages_per_second)],
[t("node.again"), showCount(sip.rates.retransmissions_per_second)], [t("node.connections"), showCount(sip.connections)], [t("node.overload"), t(sip.overloaded ? "yes" : "no")]]} />
<${Causes} title=${t("node.refused")} causes=${sip.refused} /><${Causes} title=${t("node.dropped")} causes=${sip.dropped} />
${sip.peers.length > 0 && html`<table class="rows"><caption>${t("node.peers")}</caption><thead><tr>${["peer", "messages", "calls", "refused", "dropped"].map((name) => html`<th scope="col">${t("column." + name)}</th>`)}</tr></thead>
<tbody>${sip.peers.map((peer) => html`<tr key=${peer.name}><td data-label=${t("column.peer")}><${Name}>${peer.name}<//></td><td data-label=${t("column.messages")}>${showCount(peer.messages)}</td><td data-label=${t("column.calls")}>${showCount(peer.calls)}</td>
<td data-label=${t("column.refused")}>${Object.entries(peer.refused).map(([cause, count]) => `${word("cause", cause)} ${showCount(count)}`).join(", ") || "0"}</td><td data-label=${t("column.dropped")}>${showCount(peer.dropped)}</td></tr>`)}</tbody></table>`}
${sip.strangers.addresses.length > 0 && html`<table class="rows"><caption>${t("node.strangers")}</caption><thead><tr>${["source_address", "messages", "last"].map((name) => html`<th scope="col">${t("column." + name)}</th>`)}</tr></thead>
<tbody>${sip.strangers.addresses.map((one) => html`<tr><td data-label=${t("column.source_address")}>${one.address} ${one.transport}</td><td data-label=${t("column.messages")}>${showCount(one.messages)}</td><td data-label=${t("column.last")}><${Time} at=${one.last_seen_at} /></td></tr>`)}</tbody></table>`}</section>`}
${refused.answer && html`<section><h2>${t("node.calls.refused")}</h2>${calls.length ? html`<table class="rows"><caption class="hidden">${t("node.calls.refused")}</caption>
<thead><tr>${["at", "peer", "source_address", "from", "to", "reason", "reply", "count"].map((name) => html`<th scope="col">${t("column." + name)}</th>`)}</tr></thead>
<tbody>${calls.map((call) => html`<tr><td data-label=${t("column.at")}><${Time} at=${call.at} /></td><td data-label=${t("column.peer")}>${call.peer ? html`<${Name}>${call.peer}<//>` : call.surface === "http" ? "HTTP" : "–"}</td>
<td data-label=${t("column.source_address")}>${call.source ?? "–"} ${call.transport ?? ""}</td><td data-label=${t("column.from")}><${NumberText}>${call.from}<//></td><td data-label=${t("column.to")}>${call.to ? html`<${Name}>${call.to}<//>` : html`<${NumberText} />`}</td>
<td data-label=${t("column.reason")}>${call.reason in known ? word("reason", call.reason) : word("cause", call.reason)}</td><td data-label=${t("column.reply")}>${call.status ?? "–"}</td><td data-label=${t("column.count")}>${showCount(call.count)}</td></tr>`)}</tbody></table>` : html`<${Empty}>${t("node.calls.none")}<//>`}</section>`}<//>`;
}
const known = { number_unknown: 1, no_agent_available: 1 };
