// Why a call went where it went: every rung, and the fact behind each.
import { go, isAdministrator, isMasked, link, place, query, showDuration, t, word } from "./state.js";
import { local } from "./find.js";
import { AgentLink, Alert, Empty, Field, Name, NumberText, Outcome, Page, Time, html, useAnswer } from "./ui.js";

// The rungs in the order in which they are tried.
const rungs = ["returned_call_same_number", "returned_call", "default", "fallback", "refused"];

function Considered({ agents }) {
  return html`<ul class="considered">${agents.map((agent) => html`<li class=${agent.obstacle ? "failed" : "held"}>
    <${AgentLink} agent=${agent} />: ${agent.obstacle ? word("reason", agent.obstacle) : t("explain.would")}</li>`)}</ul>`;
}

function RememberedCall({ step, at }) {
  const { call, agents = [] } = step;
  const age = (new Date(at) - new Date(call.started_at)) / 1000;
  return html`<p><${AgentLink} agent=${call.agent} /> ${t("explain.called")} <${Time} at=${call.started_at} />${" "}
    ${age >= 0 ? html` <span class="quiet">(${t("explain.before", { age: showDuration(age) })})</span>` : html` <span class="tag">${t("explain.later")}</span>`}</p>
    <dl class="facts"><dt>${t("column.from_number")}</dt><dd><${NumberText}>${call.from}<//></dd><dt>${t("column.status")}</dt><dd>${word("status", call.status)}</dd></dl>
    ${agents.length ? html`<${Considered} agents=${agents} />` : html`<p>${word("reason", step.reason)}</p>`}`;
}

function Step({ step, at, state, targets }) {
  const agent = step.agents?.[0];
  let text = null;
  if (step.rung === "remembered_call") text = html`<${RememberedCall} step=${step} at=${at} />`;
  else if (step.rung === "contact" || step.rung === "dialed_number") text = html`<p>${t("advice." + step.reason + ".what")}</p>`;
  else if (state === "untried") text = html`<p class="quiet">${t("explain.untried")}</p>`;
  else text = html`<p>${t(`explain.${step.rung}.${step.held ? "held" : "failed"}`)} ${step.held && agent && html`<${AgentLink} agent=${agent} />`}</p>`;
  return html`<li class="rung ${state}"><span class="mark" aria-hidden="true"></span>
    <h3>${t("rung." + step.rung)} <span class="state">${t("state." + state)}</span></h3>${text}
    ${step.held && targets?.length > 0 && step.rung !== "remembered_call" ? html`<p>${t("explain.targets")}</p><ol class="targets">${targets.map(({ uri }) => html`<li><code><${Name}>${uri}<//></code></li>`)}</ol>` : ""}</li>`;
}

// All rungs, those that were not tried too.
function ladder(steps) {
  const shown = steps.map((step) => ({ step, state: step.held ? "held" : "failed" }));
  const decided = steps.some(({ rung, held }) => held && rungs.includes(rung));
  const untried = decided ? rungs.filter((rung) => rung !== "refused" && !steps.some((step) => step.rung === rung)) : [];
  return [...shown, ...untried.map((rung) => ({ step: { rung, held: false }, state: "untried" }))];
}

// Where a call was sent, one line for each target.
function Attempts({ attempts, ended }) {
  return html`<section><h2>${t("explain.sent")}</h2><ol class="attempts">${attempts.map((attempt) => html`<li class=${attempt.cause ? "failed" : "held"}>
      <code><${Name}>${attempt.uri}<//></code> <span class="quiet"><${Time} at=${attempt.started_at} /></span><br />
      ${attempt.cause ? t("attempt." + attempt.cause) : t("attempt.answered")}${attempt.status ? ` (${attempt.status})` : ""}${attempt.reply_ms === null ? "" : `, ${t("attempt.reply", { ms: attempt.reply_ms })}`}</li>`)}</ol>
    ${ended && html`<p>${t("explain.ended." + ended)}</p>`}</section>`;
}

// What to do where the call should have gone elsewhere, with links to what would be changed.
function Advice({ reason, agents }) {
  return html`<section class="advice"><h2>${t("explain.change")}</h2><p>${t("advice." + reason)}</p>
    ${agents.length > 0 && html`<p>${t("explain.look")} ${agents.map((agent, index) => html`${index ? ", " : ""}<${AgentLink} agent=${agent} />`)}</p>`}</section>`;
}

function distinct(agents) {
  const known = new Map(agents.filter(Boolean).map((agent) => [agent.id, agent]));
  return [...known.values()].slice(0, 12);
}

export default function Explain() {
  const { params } = place.value;
  const { call_id, at } = params;
  const after = at && new Date(new Date(at).getTime() + 1).toISOString();
  const found = useAnswer(call_id ? "/decisions" + query({ call_id, since: at, until: after, limit: 1 }) : null);
  const decision = found.answer?.data[0];
  const unreadable = { caller_anonymous: "", caller_invalid: "unreadable" };
  const to = decision ? decision.to : params.to;
  const from = decision ? decision.from ?? unreadable[decision.reason] ?? "" : params.from;
  const time = decision?.at ?? at;
  // Who called is hidden from this session, so the steps cannot be asked for.
  const hidden = isMasked(from);
  const told = useAnswer(to && !hidden ? "/route" + query({ to, from, explain: true, at: time }) : null);
  const now = told.answer?.data;
  const moment = time ?? new Date().toISOString();
  const changed = decision && now && (now.outcome !== decision.outcome || now.reason !== decision.reason || now.agent?.id !== decision.agent?.id);
  const reason = decision?.reason ?? now?.reason;
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    go(link("explain", { from: form.get("from"), to: form.get("to"), at: form.get("at") ? new Date(form.get("at")).toISOString() : "" }));
  };
  const busy = found.busy || told.busy;
  const where = decision ?? now;
  const agents = now ? distinct([...(now.explanation ?? []).flatMap((step) => [...(step.agents ?? []), step.call?.agent]), decision?.agent, decision?.source_agent]) : [];

  return html`<${Page} title=${t("explain.title")} busy=${busy}>
    <form class="search" onSubmit=${submit} key=${`${from} ${to} ${time}`}>
      <${Field} label=${t("column.from")} hint=${t("explain.from.hint")}><input name="from" inputmode="tel" autocomplete="off" defaultValue=${hidden ? "" : decision?.from ?? params.from ?? ""} /><//>
      <${Field} label=${t("column.to")}><input name="to" inputmode="tel" autocomplete="off" required defaultValue=${to ?? ""} /><//>
      <${Field} label=${t("column.at")} hint=${t("explain.at.hint")}><input name="at" type="datetime-local" step="1" defaultValue=${local(time)} /><//>
      <p class="buttons"><button class="primary">${t("explain.ask")}</button></p></form>
    <${Alert} failure=${found.failure ?? told.failure} />
    ${call_id && found.answer && !decision && html`<${Empty}>${t("explain.gone")}<//>`}
    ${!to && !call_id && html`<${Empty}>${t("explain.about")}<//>`}
    ${where && html`<section class="verdict ${where.outcome}" aria-live="polite"><p class="headline"><${Outcome} name=${where.outcome} />${" "}
      ${where.agent ? html`${t(decision ? "explain.went" : "explain.goes")} <strong><${AgentLink} agent=${where.agent} /></strong>` : t(`explain.${decision ? "went" : "goes"}.${where.outcome}`)}</p>
      <p>${t("advice." + reason + ".what")}</p>
      <dl class="facts"><dt>${t("column.at")}</dt><dd><${Time} at=${moment} /></dd>
        <dt>${t("column.from")}</dt><dd>${from && from.startsWith("+") && !hidden ? html`<a href=${link("contact", { number: from })}>${from}</a>` : html`<${NumberText}>${hidden ? from : params.from}<//>`}</dd>
        <dt>${t("column.to")}</dt><dd><a href=${link("manage", { section: "numbers", search: to ?? "" })}><${NumberText}>${to}<//></a></dd>
        ${where.source_agent && html`<dt>${t("column.source")}</dt><dd><${AgentLink} agent=${where.source_agent} /></dd>`}
        ${decision && html`<dt>${t("column.sid")}</dt><dd><${Name}>${decision.sid}<//></dd><dt>${t("column.via")}</dt><dd>${decision.via}</dd>`}</dl></section>`}
    ${hidden && html`<p class="notice">${t("explain.masked")}</p>`}
    ${changed && html`<p class="notice">${t("explain.changed")} <${Outcome} name=${now.outcome} /> ${now.agent ? html`<${AgentLink} agent=${now.agent} />` : ""}: ${word("reason", now.reason)}</p>`}
    ${now && html`<section><h2>${t("explain.ladder")}</h2><p class="quiet">${t(decision ? "explain.ladder.past" : "explain.ladder.now")}</p>
      <ol class="ladder">${ladder(now.explanation).map(({ step, state }) => html`<${Step} step=${step} state=${state} at=${moment} targets=${now.targets} />`)}</ol></section>`}
    ${decision?.attempts.length > 0 && html`<${Attempts} attempts=${decision.attempts} ended=${decision.ended_by} />`}
    ${reason && where && html`<${Advice} reason=${reason} agents=${agents} />`}
    ${decision && isAdministrator.value && decision.outcome === "refused" && html`<p><a href=${link("node")}>${t("explain.refused")}</a></p>`}<//>`;
}
