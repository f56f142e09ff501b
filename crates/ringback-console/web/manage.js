// Environments, agents, numbers, callback roles and tokens: looked at and changed.
import { useEffect, useState } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { ask, chooseEnvironment, go, isAdministrator, link, place, query, session, showDuration, t, word } from "./state.js";
import { Import } from "./import.js";
import { AgentLink, Alert, Confirm, Empty, Field, Name, Page, Pager, Time, html, useAnswer } from "./ui.js";

const statuses = ["initiated", "ringing", "answered", "voicemail", "no_answer", "busy", "failed", "completed"];

// Sends a change and tells what became of it.
function useChange(then) {
  const [failure, fail] = useState();
  const busy = useSignal(false);
  const change = async (path, method, body) => {
    busy.value = true;
    fail();
    try {
      const answer = await ask(path, { method, body });
      await then?.(answer.data);
      return answer;
    } catch (error) {
      fail(error);
      return undefined;
    } finally {
      busy.value = false;
    }
  };
  return { change, failure, busy: busy.value };
}

function Remove({ label, text, path, after }) {
  const asking = useSignal(false);
  const { change, failure } = useChange(after);
  return html`<button type="button" class="danger" onClick=${() => { asking.value = true; }}>${label}</button><${Alert} failure=${failure} />
    <${Confirm} open=${asking.value} title=${label} text=${text} action=${label} onNo=${() => { asking.value = false; }} onYes=${() => { asking.value = false; change(path, "DELETE"); }} />`;
}

const targetLines = (targets) => targets.map(({ uri, priority, weight }) => (priority || weight ? `${uri} ${priority} ${weight}` : uri)).join("\n");
const readTargets = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean).map((line) => {
  const [uri, priority, weight] = line.split(/\s+/);
  return priority === undefined ? { uri } : { uri, priority: Number(priority), weight: Number(weight ?? 0) };
});

// A list of boxes to tick.
function Choices({ legend, name, all, chosen }) {
  return html`<fieldset><legend>${legend}</legend>${all.length ? html`<div class="choices" tabindex="0">${all.map(({ id, text }) => html`<label><input type="checkbox" name=${name} value=${id} defaultChecked=${chosen.includes(id)} /><span>${text}</span></label>`)}</div>` : html`<p class="quiet">${t("manage.nothing")}</p>`}</fieldset>`;
}

// ---- agents
function AgentForm({ agent, done }) {
  const numbers = useAnswer("/phone-numbers?per_page=100");
  const owned = agent?.phone_numbers ?? [];
  const listed = numbers.answer?.data ?? [];
  const all = [...owned, ...listed.filter(({ id }) => !owned.some((own) => own.id === id))];
  const { change, failure, busy } = useChange(done);
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const body = { name: form.get("name"), label: form.get("label") || form.get("name"), direction: form.get("direction"), phone_number_ids: form.getAll("numbers"), targets: readTargets(form.get("targets")) };
    body.description = form.get("description") || (agent ? null : undefined);
    change(agent ? `/agents/${agent.id}` : "/agents", agent ? "PATCH" : "POST", body);
  };
  return html`<form class="edit" onSubmit=${submit}>
    <${Field} label=${t("field.name")}><input name="name" required maxlength="255" defaultValue=${agent?.name ?? ""} /><//>
    <${Field} label=${t("field.label")}><input name="label" maxlength="255" defaultValue=${agent?.label ?? ""} /><//>
    <${Field} label=${t("field.direction")}><select name="direction" defaultValue=${agent?.direction ?? "inbound"}>${["inbound", "outbound"].map((name) => html`<option value=${name} selected=${name === agent?.direction}>${word("direction", name)}</option>`)}</select><//>
    <${Field} label=${t("field.description")} wide=${true}><input name="description" maxlength="2000" defaultValue=${agent?.description ?? ""} /><//>
    <${Field} label=${t("field.targets")} hint=${t("field.targets.hint")} wide=${true}><textarea name="targets" rows="3" spellcheck="false" defaultValue=${targetLines(agent?.targets ?? [])}></textarea><//>
    <${Choices} key=${all.length} legend=${t("field.numbers")} name="numbers" all=${all.map(({ id, number }) => ({ id, text: number }))} chosen=${owned.map(({ id }) => id)} />
    <${Alert} failure=${failure} /><p class="buttons"><button class="primary" disabled=${busy || numbers.busy}>${t("save")}</button></p></form>`;
}

function RoleForm({ agent, role, again }) {
  const sources = useAnswer("/callback-agents/source-agents");
  const [problems, tell] = useState([]);
  const [said, say] = useState();
  const { change, failure, busy } = useChange(() => { say(t("saved")); again(); });
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const source_agent_ids = form.getAll("sources");
    const callback_trigger_statuses = form.getAll("statuses");
    say();
    // The server tells what would be wrong before anything is changed.
    try {
      await ask(`/callback-agents/${agent.id}/check-constraints`, { method: "POST", body: { is_callback_agent: true, callback_source_agents: source_agent_ids, callback_trigger_statuses } });
      tell([]);
    } catch (error) {
      tell([error]);
      return;
    }
    const days = Number(form.get("days"));
    change(`/agents/${agent.id}/callback`, role ? "PUT" : "POST", { source_agent_ids, callback_trigger_statuses: callback_trigger_statuses.length ? callback_trigger_statuses : null, recency_window_seconds: days ? Math.round(days * 86400) : null });
  };
  const all = sources.answer?.data ?? [];
  const chosen = role?.source_agent_ids ?? [];
  const known = [...all.filter(({ id }) => chosen.includes(id)), ...all.filter(({ id }) => !chosen.includes(id)).slice(0, 500)];
  return html`<form class="edit" onSubmit=${submit}>
    <${Choices} key=${"s" + known.length} legend=${t("role.sources")} name="sources" all=${known.map(({ id, name }) => ({ id, text: html`<${Name}>${name}<//>` }))} chosen=${chosen} />
    <${Choices} legend=${t("role.statuses")} name="statuses" all=${statuses.map((id) => ({ id, text: word("status", id) }))} chosen=${role?.callback_trigger_statuses ?? []} />
    <${Field} label=${t("role.window")} hint=${t("role.window.hint")}><input name="days" type="number" min="0.01" step="0.01" defaultValue=${role?.recency_window_seconds ? role.recency_window_seconds / 86400 : ""} /><//>
    <${Alert} failure=${failure ?? problems[0]} />${said && html`<p role="status" class="done">${said}</p>`}
    <p class="buttons"><button class="primary" disabled=${busy || sources.busy}>${t("save")}</button>
    ${role && html`<${Remove} label=${t("role.remove")} text=${t("role.remove.text", { name: agent.name })} path=${`/agents/${agent.id}/callback`} after=${again} />`}</p></form>`;
}

function Agent({ id }) {
  const { busy, answer, failure, again } = useAnswer(`/agents/${id}`);
  const role = useAnswer(answer?.data.direction === "inbound" ? `/callback-agents` : null);
  const { change, failure: refused } = useChange(() => again());
  const [said, say] = useState();
  const agent = answer?.data;
  const config = role.answer?.data.find((one) => one.id === id)?.callback_config;
  if (!agent) return html`<div aria-busy=${busy ? "true" : "false"}><${Alert} failure=${failure} /></div>`;
  const published = agent.current_status === "published";
  return html`<section><h2><${Name}>${agent.name}<//> <span class="tag ${agent.current_status}">${word("agent_status", agent.current_status)}</span></h2>
      <p>${word("direction", agent.direction)} · ${t("created")} <${Time} at=${agent.created_at} /></p>
      <p class="buttons"><button onClick=${() => change(`/agents/${id}/${published ? "unpublish" : "publish"}`, "POST")}>${t(published ? "agent.unpublish" : "agent.publish")}</button>
      <a class="button" href=${link("find", { agent: id })}>${t("agent.decisions")}</a> <a class="button" href=${link("audit", { object: id })}>${t("audit.history")}</a>
      <${Remove} label=${t("agent.delete")} text=${t("agent.delete.text", { name: agent.name })} path=${`/agents/${id}`} after=${() => go(link("manage", { section: "agents" }))} /></p><${Alert} failure=${refused} /></section>
    <h2>${t("agent.edit")}</h2>${said && html`<p role="status" class="done">${said}</p>`}<${AgentForm} key=${agent.updated_at} agent=${agent} done=${() => { say(t("saved")); again(); }} />
    ${agent.direction === "inbound" && role.answer && html`<h2>${t("role.title")}</h2><p>${t("role.about")}</p><${RoleForm} key=${JSON.stringify(config)} agent=${agent} role=${config} again=${role.again} />`}`;
}

function Agents() {
  const { params } = place.value;
  const { search, status, direction, page, id } = params;
  const { busy, answer, failure } = useAnswer(id ? null : "/agents" + query({ search, status, direction, page, per_page: 50 }));
  if (id === "new") return html`<h2>${t("agent.new")}</h2><${AgentForm} done=${(agent) => go(link("manage", { section: "agents", id: agent.id }))} />`;
  if (id) return html`<${Agent} key=${id} id=${id} />`;
  const submit = (event) => { event.preventDefault(); go(link("manage", { section: "agents", ...Object.fromEntries(new FormData(event.target)) })); };
  return html`<form class="search" role="search" onSubmit=${submit} key=${JSON.stringify(params)}>
      <${Field} label=${t("manage.search")}><input type="search" name="search" defaultValue=${search ?? ""} /><//>
      <${Field} label=${t("field.direction")}><select name="direction" defaultValue=${direction ?? ""}><option value="">${t("any")}</option>${["inbound", "outbound"].map((name) => html`<option value=${name} selected=${name === direction}>${word("direction", name)}</option>`)}</select><//>
      <${Field} label=${t("field.status")}><select name="status" defaultValue=${status ?? ""}><option value="">${t("any")}</option>${["published", "draft"].map((name) => html`<option value=${name} selected=${name === status}>${word("agent_status", name)}</option>`)}</select><//>
      <p class="buttons"><button class="primary">${t("find.search")}</button><a class="button" href=${link("manage", { section: "agents", id: "new" })}>${t("agent.new")}</a></p></form>
    <${Alert} failure=${failure} /><div data-list aria-busy=${busy ? "true" : "false"}>${answer && (answer.data.length ? html`<table class="rows"><caption>${t("manage.total", { count: answer.meta.total })}</caption>
      <thead><tr>${["name", "direction", "status", "numbers"].map((name) => html`<th scope="col">${t("field." + name)}</th>`)}</tr></thead>
      <tbody>${answer.data.map((agent) => html`<tr key=${agent.id}><td data-label=${t("field.name")}><${AgentLink} agent=${agent} /></td><td data-label=${t("field.direction")}>${word("direction", agent.direction)}</td>
        <td data-label=${t("field.status")}><span class="tag ${agent.current_status}">${word("agent_status", agent.current_status)}</span></td><td data-label=${t("field.numbers")}>${agent.phone_numbers.slice(0, 4).map(({ number }) => number).join(", ")}${agent.phone_numbers.length > 4 ? ` +${agent.phone_numbers.length - 4}` : ""}</td></tr>`)}</tbody></table>` : html`<${Empty}>${t("manage.none")}<//>`)}</div>
    <${Pager} meta=${answer?.meta} url=${(to) => link("manage", { ...params, page: to })} />`;
}

// ---- numbers
function NumberDetail({ id, number, again }) {
  const [said, say] = useState();
  const { change, failure, busy } = useChange(() => { say(t("saved")); again(); });
  if (!number) return html`<${Empty}>${t("manage.none")}<//>`;
  const inbound = number.agents.filter(({ direction }) => direction === "inbound");
  return html`<section><h2>${number.number}</h2><p>${number.formatted_number} · ${number.country_code ?? ""} · ${t("created")} <${Time} at=${number.created_at} /></p>
    <h3>${t("number.agents")}</h3>${number.agents.length ? html`<ul class="plain">${number.agents.map((agent) => html`<li><${AgentLink} agent=${agent} /> · ${word("direction", agent.direction)}</li>`)}</ul>` : html`<p class="quiet">${t("number.unowned")}</p>`}
    <form class="edit" onSubmit=${(event) => { event.preventDefault(); change(`/phone-numbers/${id}`, "PATCH", { default_agent_id: new FormData(event.target).get("agent") || null }); }}>
      <${Field} label=${t("number.default")} hint=${t("number.default.hint")}><select name="agent"><option value="">${t("number.first")}</option>${inbound.map((agent) => html`<option value=${agent.id} selected=${agent.id === number.default_agent_id}>${agent.name.slice(0, 80)}</option>`)}</select><//>
      <p class="buttons"><button class="primary" disabled=${busy}>${t("save")}</button></p></form><${Alert} failure=${failure} />${said && html`<p role="status" class="done">${said}</p>`}
    <p class="buttons"><a class="button" href=${link("find", { number: number.number.slice(1) })}>${t("number.decisions")}</a> <a class="button" href=${link("audit", { object: id })}>${t("audit.history")}</a>
    <${Remove} label=${t("number.delete")} text=${t("number.delete.text", { number: number.number })} path=${`/phone-numbers/${id}`} after=${() => go(link("manage", { section: "numbers" }))} /></p></section>`;
}

function Numbers() {
  const { params } = place.value;
  const { search, page, id } = params;
  const { busy, answer, failure, again } = useAnswer("/phone-numbers" + (id ? query({ search: id, per_page: 1 }) : query({ search, page: page ?? 1, per_page: 50 })));
  const { change, failure: refused, busy: saving } = useChange((number) => go(link("manage", { section: "numbers", id: number.id })));
  if (id) return html`<${Alert} failure=${failure} />${answer && html`<${NumberDetail} id=${id} number=${answer.data.find((one) => one.id === id)} again=${again} />`}`;
  return html`<form class="search" role="search" onSubmit=${(event) => { event.preventDefault(); go(link("manage", { section: "numbers", search: new FormData(event.target).get("search") })); }} key=${search}>
      <${Field} label=${t("number.search")}><input type="search" name="search" inputmode="tel" defaultValue=${search ?? ""} /><//><p class="buttons"><button class="primary">${t("find.search")}</button></p></form>
    <form class="edit" onSubmit=${(event) => { event.preventDefault(); change("/phone-numbers", "POST", { number: new FormData(event.target).get("number") }); }}>
      <${Field} label=${t("number.new")}><input name="number" inputmode="tel" required autocomplete="off" /><//><p class="buttons"><button disabled=${saving}>${t("number.add")}</button></p><${Alert} failure=${refused} /></form>
    <${Alert} failure=${failure} /><div data-list aria-busy=${busy ? "true" : "false"}>${answer && (answer.data.length ? html`<table class="rows"><caption>${t("manage.total", { count: answer.meta.total })}</caption>
      <thead><tr>${["number", "country", "agents"].map((name) => html`<th scope="col">${t("field." + name)}</th>`)}</tr></thead>
      <tbody>${answer.data.map((number) => html`<tr key=${number.id}><td data-label=${t("field.number")}><a href=${link("manage", { section: "numbers", id: number.id })}>${number.number}</a></td><td data-label=${t("field.country")}>${number.country_code ?? "–"}</td>
        <td data-label=${t("field.agents")}>${number.agents.slice(0, 5).map((agent, index) => html`${index ? ", " : ""}<${AgentLink} agent=${agent} />`)}${number.agents.length > 5 ? ` +${number.agents.length - 5}` : ""}</td></tr>`)}</tbody></table>` : html`<${Empty}>${t("manage.none")}<//>`)}</div>
    <${Pager} meta=${answer?.meta} url=${(to) => link("manage", { ...params, page: to })} />`;
}

// ---- roles
function Roles() {
  const { busy, answer, failure } = useAnswer("/callback-agents");
  const list = answer?.data ?? [];
  return html`<p>${t("role.about")}</p><${Alert} failure=${failure} /><div data-list aria-busy=${busy ? "true" : "false"}>
    ${answer && (list.length ? html`<table class="rows"><caption>${t("manage.total", { count: list.length })}</caption><thead><tr>${["name", "status", "sources", "statuses", "window"].map((name) => html`<th scope="col">${t("field." + name)}</th>`)}</tr></thead>
    <tbody>${list.slice(0, 500).map(({ id, name, current_status: status, callback_config: role }) => html`<tr key=${id}><td data-label=${t("field.name")}><${AgentLink} agent=${{ id, name }} /></td><td data-label=${t("field.status")}><span class="tag ${status}">${word("agent_status", status)}</span></td>
      <td data-label=${t("field.sources")}>${role.source_agent_ids.length}</td><td data-label=${t("field.statuses")}>${(role.callback_trigger_statuses ?? []).map((name) => word("status", name)).join(", ") || t("any")}</td>
      <td data-label=${t("field.window")}>${role.recency_window_seconds ? showDuration(role.recency_window_seconds) : t("role.environment")}</td></tr>`)}</tbody></table>` : html`<${Empty}>${t("role.none")}<//>`)}</div>`;
}

// ---- environments and tokens, for the administrator
function EnvironmentForm({ environment, done }) {
  const { change, failure, busy } = useChange(done);
  const submit = (event) => {
    event.preventDefault();
    const form = new FormData(event.target);
    const clear = (text) => text || (environment ? null : undefined);
    const days = Number(form.get("days"));
    change(environment ? `/environments/${environment.id}` : "/environments", environment ? "PATCH" : "POST", {
      name: form.get("name"), default_country: clear(form.get("country").toUpperCase()), target_template: clear(form.get("template")),
      fallback_targets: readTargets(form.get("fallback")), recency_window_seconds: clear(days ? Math.round(days * 86400) : ""), number_form: form.get("form"),
    });
  };
  return html`<form class="edit" onSubmit=${submit}>
    <${Field} label=${t("field.name")}><input name="name" required maxlength="255" defaultValue=${environment?.name ?? ""} /><//>
    <${Field} label=${t("field.country")} hint=${t("environment.country.hint")}><input name="country" maxlength="2" pattern="[A-Za-z]{2}" defaultValue=${environment?.default_country ?? ""} /><//>
    <${Field} label=${t("environment.form")}><select name="form">${["national", "e164"].map((name) => html`<option value=${name} selected=${name === environment?.number_form}>${t("environment.form." + name)}</option>`)}</select><//>
    <${Field} label=${t("environment.window")}><input name="days" type="number" min="0.01" step="0.01" defaultValue=${environment ? environment.recency_window_seconds / 86400 : ""} /><//>
    <${Field} label=${t("environment.template")} hint=${t("environment.template.hint")} wide=${true}><input name="template" spellcheck="false" defaultValue=${environment?.target_template ?? ""} /><//>
    <${Field} label=${t("environment.fallback")} hint=${t("field.targets.hint")} wide=${true}><textarea name="fallback" rows="2" spellcheck="false" defaultValue=${targetLines(environment?.fallback_targets ?? [])}></textarea><//>
    <${Alert} failure=${failure} /><p class="buttons"><button class="primary" disabled=${busy}>${t("save")}</button></p></form>`;
}

function Environments() {
  const { id } = place.value.params;
  const { busy, answer, failure, again } = useAnswer("/environments");
  const [said, say] = useState();
  const list = answer?.data ?? [];
  const one = list.find((environment) => environment.id === id);
  if (id === "new") return html`<h2>${t("environment.new")}</h2><${EnvironmentForm} done=${async (made) => { await chooseEnvironment(made.id); go(link("manage", { section: "tokens" })); }} />`;
  if (one) {
    return html`<h2><${Name}>${one.name}<//></h2>${said && html`<p role="status" class="done">${said}</p>`}<${EnvironmentForm} key=${JSON.stringify(one)} environment=${one} done=${() => { say(t("saved")); again(); }} />
      <p><${Remove} label=${t("environment.delete")} text=${t("environment.delete.text", { name: one.name })} path=${`/environments/${id}`} after=${() => { go(link("manage", { section: "environments" })); again(); }} /></p>`;
  }
  return html`<p><a class="button" href=${link("manage", { section: "environments", id: "new" })}>${t("environment.new")}</a></p><${Alert} failure=${failure} /><div data-list aria-busy=${busy ? "true" : "false"}>
    ${answer && (list.length ? html`<table class="rows"><caption>${t("manage.total", { count: list.length })}</caption><thead><tr>${["name", "country", "created"].map((name) => html`<th scope="col">${t("field." + name)}</th>`)}</tr></thead>
    <tbody>${list.map((environment) => html`<tr key=${environment.id}><td data-label=${t("field.name")}><a href=${link("manage", { section: "environments", id: environment.id })}><${Name}>${environment.name}<//></a></td><td data-label=${t("field.country")}>${environment.default_country ?? "–"}</td><td data-label=${t("field.created")}><${Time} at=${environment.created_at} /></td></tr>`)}</tbody></table>` : html`<${Empty}>${t("environment.empty")}<//>`)}</div>`;
}

function Tokens() {
  const environment = session.value.environment;
  const { busy, answer, failure, again } = useAnswer(environment ? `/environments/${environment.id}/tokens` : null);
  const [made, show] = useState();
  const { change, failure: refused } = useChange((token) => { show(token); again(); });
  if (!environment) return html`<${Empty}>${t("environment.choose")}<//>`;
  const list = answer?.data ?? [];
  return html`<form class="edit" onSubmit=${(event) => { event.preventDefault(); const form = new FormData(event.target); change(`/environments/${environment.id}/tokens`, "POST", { name: form.get("name") || null, masked: form.has("masked") }); event.target.reset(); }}>
      <${Field} label=${t("token.name")}><input name="name" maxlength="255" autocomplete="off" /><//>
      <p class="choices"><label><input type="checkbox" name="masked" /><span>${t("token.masked")}</span></label></p><p class="buttons"><button class="primary">${t("token.new")}</button></p></form>
    <${Alert} failure=${failure ?? refused} />${made && html`<section role="status"><h2>${t("token.made")}</h2><p>${t("token.once")}</p><code class="secret">${made.token}</code></section>`}
    <div data-list aria-busy=${busy ? "true" : "false"}>${answer && (list.length ? html`<table class="rows"><caption>${t("token.list")}</caption><thead><tr><th scope="col">${t("field.name")}</th><th scope="col">${t("field.created")}</th><th scope="col"><span class="hidden">${t("token.delete")}</span></th></tr></thead>
    <tbody>${list.map((token) => html`<tr key=${token.id}><td data-label=${t("field.name")}>${token.name ? html`<${Name}>${token.name}<//>` : html`<span class="quiet">${t("token.nameless")}</span>`}${token.masked ? html` <span class="tag">${t("session.masked")}</span>` : ""}</td><td data-label=${t("field.created")}><${Time} at=${token.created_at} /></td>
      <td><${Remove} label=${t("token.delete")} text=${t("token.delete.text", { name: token.name ?? "" })} path=${`/environments/${environment.id}/tokens/${token.id}`} after=${again} /></td></tr>`)}</tbody></table>` : html`<${Empty}>${t("token.none")}<//>`)}</div>`;
}

const sections = { agents: Agents, numbers: Numbers, roles: Roles, import: Import, environments: Environments, tokens: Tokens };

export default function Manage() {
  const { section = "agents" } = place.value.params;
  const names = Object.keys(sections).filter((name) => isAdministrator.value || !["environments", "tokens"].includes(name));
  const Section = names.includes(section) ? sections[section] : Agents;
  const [busy, setBusy] = useState(true);
  // The page is busy as long as the list in it is.
  useEffect(() => {
    const look = () => setBusy(Boolean(document.querySelector("main [aria-busy='true']")));
    look();
    const watch = new MutationObserver(look);
    watch.observe(document.querySelector("main"), { subtree: true, childList: true, attributeFilter: ["aria-busy"] });
    return () => watch.disconnect();
  }, [section]);
  return html`<${Page} title=${t("manage.title")} busy=${busy}>
    <nav aria-label=${t("manage.sections")}><ul class="tabs">${names.map((name) => html`<li><a href=${link("manage", { section: name })} aria-current=${name === section ? "true" : undefined}>${t("section." + name)}</a></li>`)}</ul></nav>
    <${Section} key=${section} /><//>`;
}
