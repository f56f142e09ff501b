// Callbacks of a period, and the calls of the last minute.
import { useEffect, useState } from "preact/hooks";
import { go, link, place, query, showCount, t, word } from "./state.js";
import { AgentLink, Alert, Empty, Field, Page, html, useAnswer } from "./ui.js";
import { follow } from "./live.js";

const outcomes = ["callback", "default", "fallback", "refused"];
const SECONDS = 60;
const day = (date) => date.toISOString().slice(0, 10);

// How many calls each of the last seconds had, by outcome.
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

// What the server counts of its replies: how many took at most so long, by transports together.
const buckets = (page) => {
  const found = new Map();
  for (const [, le, count] of page.matchAll(/^ringback_sip_reply_duration_seconds_bucket\{.*le="([^"]+)"\} (\d+)/gm)) {
    const bound = le === "+Inf" ? Infinity : Number(le);
    found.set(bound, (found.get(bound) ?? 0) + Number(count));
  }
  return [...found].sort(([one], [other]) => one - other);
};

// Below which time this share of the replies between two looks lies; between two bounds it is in proportion.
function quantile(before, now, share) {
  const counts = now.map(([bound, count], index) => [bound, count - (before[index]?.[1] ?? 0)]);
  const all = counts.at(-1)?.[1] ?? 0;
  if (!all) return null;
  let [low, under] = [0, 0];
  for (const [bound, count] of counts) {
    if (count >= share * all) return bound === Infinity ? low : low + ((bound - low) * (share * all - under)) / (count - under);
    [low, under] = [bound, count];
  }
  return low;
}

// How long replies take, as a curve of the last minutes: half of them, and 99 of 100.
function Latency() {
  const [looks, set] = useState([]);
  useEffect(() => {
    let before;
    const look = async () => {
      const answer = document.hidden ? null : await fetch("/metrics").catch(() => null);
      if (!answer?.ok) return;
      const now = buckets(await answer.text());
      if (before) set((old) => [...old, { half: quantile(before, now, 0.5), most: quantile(before, now, 0.99) }].slice(-LOOKS));
      before = now;
    };
    look();
    const timer = setInterval(look, 2000);
    return () => clearInterval(timer);
  }, []);
  const top = Math.max(0.0001, ...looks.map(({ most }) => most ?? 0));
  const points = (name) => looks.map((look, index) => (look[name] === null ? null : `${((LOOKS - looks.length + index) * 600) / (LOOKS - 1)},${118 - (116 * look[name]) / top}`)).filter(Boolean).join(" ");
  const last = looks.findLast(({ half }) => half !== null);
  const shown = (seconds) => t("statistics.micros", { count: showCount(Math.round(seconds * 1e6)) });
  return html`<section><h2>${t("statistics.latency")}</h2>
    ${last ? html`<svg class="chart" viewBox="0 0 600 120" preserveAspectRatio="none" aria-hidden="true"><polyline class="most" points=${points("most")} /><polyline class="half" points=${points("half")} /></svg>
      <dl class="facts"><dt>${t("statistics.half")}</dt><dd>${shown(last.half)}</dd><dt>${t("statistics.most")}</dt><dd>${shown(last.most)}</dd></dl>`
    : html`<${Empty}>${t("statistics.silent")}<//>`}</section>`;
}

// How many looks the curve has: three minutes.
const LOOKS = 90;

export default function Statistics() {
  const { params } = place.value;
  const today = new Date();
  const start = params.start ?? day(new Date(today - 30 * 86_400_000));
  const end = params.end ?? day(today);
  const { busy, answer, failure } = useAnswer("/callback-agents/stats" + query({ start_date: start, end_date: end, by: "callback_agent" }));
  const data = answer?.data;
  const sources = data?.callbacks_by_source_agent ?? [];
  const agents = data?.callbacks_by_callback_agent ?? [];
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
      : html`<${Empty}>${t("statistics.none")}<//>`}
      ${agents.length > 0 && html`<table class="rows small"><caption>${t("statistics.by_agent")}</caption><thead><tr><th scope="col">${t("column.agent")}</th><th scope="col">${t("statistics.received")}</th><th scope="col">${t("statistics.answered")}</th></tr></thead>
        <tbody>${agents.slice(0, 100).map(({ callback_agent_id: id, name, total_callbacks_received: received, callbacks_answered: answered }) => html`<tr key=${id}><td data-label=${t("column.agent")}><${AgentLink} agent=${{ id, name }} /></td>
          <td data-label=${t("statistics.received")}>${showCount(received)}</td><td data-label=${t("statistics.answered")}>${showCount(answered)}</td></tr>`)}</tbody></table>`}</section>`}
    <${Minute} /><${Latency} /><//>`;
}
