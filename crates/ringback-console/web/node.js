// The server itself: for the administrator.
import { useEffect } from "preact/hooks";
import { isAdministrator, showCount, showDuration, t, word } from "./state.js";
import { Alert, Empty, Name, NumberText, Page, Time, html, useAnswer, visible } from "./ui.js";

const bytes = (count) => (count === null || count === undefined ? "–" : count > 1e9 ? `${showCount(count / 1e9)} GB` : `${showCount(count / 1e6)} MB`);
const Facts = ({ pairs }) => html`<dl class="facts">${pairs.filter(Boolean).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;
const Causes = ({ title, causes }) => Object.keys(causes).length > 0 && html`<section><h3>${title}</h3><${Facts} pairs=${Object.entries(causes).map(([cause, count]) => [word("cause", cause), showCount(count)])} /></section>`;

// The nodes that share the log, how far each has read, and what is wrong with the servers that keep it.
function Cluster({ data }) {
  const { stream, durability, nodes, agree } = data;
  return html`<section><h2>${t("cluster.title")} <${Name}>${data.name}<//></h2><${Facts} pairs=${[
      [t("cluster.node"), html`<${Name}>${data.node}<//>`], [t("cluster.connected"), t(data.connected ? "yes" : "no")], [t("cluster.agree"), agree === null ? "–" : t(agree ? "yes" : "no")],
      [t("cluster.durable"), t(durability.ok ? "yes" : "no")],
      stream && [t("cluster.stream"), html`<${Name}>${stream.name}<//> · ${t("cluster.sequence", { first: showCount(stream.first_sequence), last: showCount(stream.last_sequence) })} · ${bytes(stream.bytes)} · ${t("cluster.replicas", { count: stream.replicas })}`],
      stream && [t("cluster.leader"), stream.leader ? html`<${Name}>${stream.leader}<//>` : "–"]]} />
    ${agree === false && html`<${Alert}>${t("cluster.differ")}<//>`}
    ${durability.problems.length > 0 && html`<${Alert}>${t("cluster.problems")} ${durability.problems.map((text) => visible(text)).join("; ")}<//>`}
    <table class="rows"><caption>${t("cluster.nodes")}</caption><thead><tr>${["node", "state", "lag", "read", "digest", "seen", "version"].map((name) => html`<th scope="col">${t("cluster.column." + name)}</th>`)}</tr></thead>
    <tbody>${nodes.map((node) => html`<tr key=${node.node}><td data-label=${t("cluster.column.node")}><span><${Name}>${node.node}<//> <span class="quiet"><${Name}>${node.url}<//></span></span></td>
      <td data-label=${t("cluster.column.state")}><span class="health ${{ current: "ready", catching_up: "draining", gone: "degraded" }[node.state]}">${word("cluster.state", node.state)}</span></td>
      <td data-label=${t("cluster.column.lag")}>${showCount(node.lag)}</td><td data-label=${t("cluster.column.read")}>${showCount(node.applied_sequence)}</td>
      <td data-label=${t("cluster.column.digest")}><span><code>${node.digest.slice(0, 12)}</code> <span class="quiet">${t("cluster.at", { sequence: showCount(node.digest_sequence) })}</span></span></td>
      <td data-label=${t("cluster.column.seen")}><${Time} at=${node.seen_at} /></td><td data-label=${t("cluster.column.version")}>${node.version}</td></tr>`)}</tbody></table></section>`;
}

export default function Node() {
  const allowed = isAdministrator.value;
  const status = useAnswer(allowed ? "/status" : null);
  const refused = useAnswer(allowed ? "/refused-calls?limit=100" : null);
  const cluster = useAnswer(allowed ? "/cluster" : null);
  const isAlone = cluster.failure?.code === "NOT_CLUSTERED";
  const again = () => {
    status.again();
    refused.again();
    // A server that is in no cluster joins none before it starts again.
    if (!isAlone) cluster.again();
  };
  useEffect(() => {
    const timer = setInterval(() => { if (!document.hidden && allowed) again(); }, 5000);
    return () => clearInterval(timer);
  }, [allowed]);
  if (!allowed) return html`<${Page} title=${t("node.title")}><${Empty}>${t("node.administrator")}<//><//>`;
  const data = status.answer?.data;
  const { sip } = data ?? {};
  const together = cluster.answer?.data;
  const calls = refused.answer?.data ?? [];
  return html`<${Page} title=${t("node.title")} busy=${(status.busy && !data) || (refused.busy && !refused.answer) || (cluster.busy && !together)} actions=${html`<button onClick=${again}>${t("again")}</button>`}>
    <${Alert} failure=${status.failure ?? refused.failure ?? (isAlone ? undefined : cluster.failure)} />
    ${data && html`<section><h2>${t("node.health")}</h2><${Facts} pairs=${[
      [t("node.state"), html`<span class="health ${data.health.status}">${word("health", data.health.status)}</span>`],
      [t("node.version"), data.version], [t("node.started"), html`<${Time} at=${data.started_at} />`], [t("node.uptime"), showDuration(data.uptime_seconds)],
      [t("node.storage"), word("storage", data.health.storage)], [t("node.index"), word("index", data.health.index)],
      [t("node.contacts"), showCount(data.counts.contacts)], [t("node.environments"), showCount(data.counts.environments)],
      [t("node.agents"), showCount(data.counts.agents)], [t("node.numbers"), showCount(data.counts.phone_numbers)],
      data.storage && [t("node.data"), bytes(data.storage.bytes)], data.storage && [t("node.free"), bytes(data.storage.free_bytes)],
      ...(data.certificates ?? []).map(({ listener, expires_at: at }) => [t("node.certificate", { listener }), html`<${Time} at=${at} />`])]} /></section>`}
    ${together && html`<${Cluster} data=${together} />`}
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
      <tbody>${calls.map((call) => html`<tr><td data-label=${t("column.at")}><${Time} at=${call.at} /></td><td data-label=${t("column.peer")}>${call.peer ? html`<${Name}>${call.peer}<//>` : call.via && !call.transport ? call.via : "–"}</td>
        <td data-label=${t("column.source_address")}>${call.source ?? "–"} ${call.transport ?? ""}</td><td data-label=${t("column.from")}><${NumberText}>${call.from}<//></td><td data-label=${t("column.to")}>${call.to ? html`<${Name}>${call.to}<//>` : html`<${NumberText} />`}</td>
        <td data-label=${t("column.reason")}>${call.reason in known ? word("reason", call.reason) : word("cause", call.reason)}</td><td data-label=${t("column.reply")}>${call.status ?? "–"}</td><td data-label=${t("column.count")}>${showCount(call.count)}</td></tr>`)}</tbody></table>` : html`<${Empty}>${t("node.calls.none")}<//>`}</section>`}<//>`;
}

const known = { number_unknown: 1, no_agent_available: 1 };
