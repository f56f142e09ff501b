// What is remembered of a number, and where a return would go.
import { useState } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { ask, go, isMasked, link, place, query, t, word } from "./state.js";
import { AgentName, Alert, Confirm, Empty, Field, Name, NumberText, Page, Time, html, useAnswer } from "./ui.js";

export default function Contact() {
  const { number } = place.value.params;
  const { busy, answer, failure, again } = useAnswer(number ? `/contacts/${encodeURIComponent(number)}` : null);
  const recent = useAnswer(number && /^\+?\d{3,}$/.test(number) ? "/decisions" + query({ number: number.replace("+", ""), limit: 10 }) : null);
  const asking = useSignal(false);
  const [problem, tell] = useState();
  const [done, say] = useState();
  const calls = answer?.data.calls ?? [];
  // Where numbers are hidden, the one that was typed stands for it.
  const whole = isMasked(answer?.data.number) ? number : answer?.data.number;
  const own = [...new Set(calls.map((call) => call.from).filter(Boolean))];
  const unknown = failure?.status === 404;
  const erase = () => {
    asking.value = false;
    ask(`/contacts/${encodeURIComponent(whole)}`, { method: "DELETE" }).then(() => { say(t("contact.erased")); again(); }, tell);
  };
  return html`<${Page} title=${t("contact.title")} busy=${busy || recent.busy}>
    <form class="search" onSubmit=${(event) => { event.preventDefault(); say(); go(link("contact", { number: new FormData(event.target).get("number").trim() })); }} key=${number}>
      <${Field} label=${t("contact.number")}><input name="number" inputmode="tel" autocomplete="off" required defaultValue=${number ?? ""} /><//>
      <p class="buttons"><button class="primary">${t("contact.show")}</button></p></form>
    ${done && html`<p role="status" class="done">${done}</p>`}
    <${Alert} failure=${problem ?? (unknown ? undefined : failure)} />
    ${!number && html`<${Empty}>${t("contact.about")}<//>`}
    ${unknown && html`<${Empty}>${t("contact.unknown")}<//>`}
    ${answer && html`<section><h2>${answer.data.number}</h2>
      <table class="rows"><caption>${t("contact.calls")}</caption><thead><tr>${["at", "agent_called", "from_number", "status", "sid"].map((name) => html`<th scope="col">${t("column." + name)}</th>`)}</tr></thead>
      <tbody>${calls.map((call) => html`<tr key=${call.sid}><td data-label=${t("column.at")}><${Time} at=${call.started_at} /></td>
        <td data-label=${t("column.agent_called")}><a href=${link("manage", { section: "agents", id: call.agent_id })}><${AgentName} id=${call.agent_id} /></a></td>
        <td data-label=${t("column.from_number")}><${NumberText}>${call.from}<//></td><td data-label=${t("column.status")}>${word("status", call.status)}</td>
        <td data-label=${t("column.sid")}><${Name}>${call.sid}<//></td></tr>`)}</tbody></table>
      ${own.length > 0 && html`<p>${t("contact.return")} ${own.map((to, index) => html`${index ? ", " : ""}<a href=${link("explain", { from: whole, to })}>${to}</a>`)}</p>`}
      <p><button class="danger" onClick=${() => { asking.value = true; }}>${t("contact.erase")}</button></p></section>
      <${Confirm} open=${asking.value} title=${t("contact.erase")} text=${t("contact.erase.text", { number: whole })} action=${t("contact.erase.action", { number: whole })}
        check=${whole.slice(-4)} onYes=${erase} onNo=${() => { asking.value = false; }} />`}
    ${recent.answer?.data.length > 0 && html`<section><h2>${t("contact.decisions")}</h2><ul class="plain">${recent.answer.data.map((decision) => html`<li><a href=${link("explain", { call_id: decision.sid, at: decision.at })}><${Time} at=${decision.at} /></a> · ${word("outcome", decision.outcome)} · ${word("reason", decision.reason)}</li>`)}</ul></section>`}<//>`;
}
