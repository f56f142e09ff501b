import { useEffect, useLayoutEffect, useRef, useState } from "./preact-hooks.ceebd18b27.js";
import { ask, go, link, place, t, word } from "./state.098059260a.js";
import { AgentLink, Alert, Empty, Field, Page, html, useAnswer } from "./ui.e645c1d396.js";
const SHOWN = 40;
async function agentsWith(ids) {
const known = new Map();
const wanted = [...ids];
const work = async () => {
for (let id = wanted.pop(); id; id = wanted.pop()) {
const agent = await ask(`/agents/${id}`).then(({ data }) => data, () => null);
if (agent) known.set(id, agent);
}
};
await Promise.all([work(), work(), work(), work()]);
return known;
}
function Drawing({ roles, agents, problems }) {
const box = useRef();
const [lines, draw] = useState([]);
const sources = [...new Set(roles.flatMap(({ callback_config: role }) => role.source_agent_ids))].filter((id) => agents.has(id));
const numbers = [...new Map(roles.flatMap(({ id }) => agents.get(id)?.phone_numbers ?? []).map((number) => [number.id, number])).values()];
useLayoutEffect(() => {
const measure = () => {
const outer = box.current.getBoundingClientRect();
const side = (id, right) => {
const rect = box.current.querySelector(`[data-node="${CSS.escape(id)}"]`)?.getBoundingClientRect();
return rect && [(right ? rect.right : rect.left) - outer.left, rect.top + rect.height / 2 - outer.top];
};
const join = (from, to) => {
const [a, b] = [side(from, true), side(to, false)];
if (!a || !b) return null;
const middle = (a[0] + b[0]) / 2;
return `M${a[0]} ${a[1]}C${middle} ${a[1]} ${middle} ${b[1]} ${b[0]} ${b[1]}`;
};
draw(roles.flatMap(({ id, callback_config: role }) => [
...role.source_agent_ids.map((source) => join("source-" + source, "role-" + id)),
...(agents.get(id)?.phone_numbers ?? []).map((number) => join("role-" + id, "number-" + number.id)),
]).filter(Boolean));
};
measure();
const watch = new ResizeObserver(measure);
watch.observe(box.current);
return () => watch.disconnect();
}, [roles, agents]);
const mark = (id) => problems.has(id) && html` <span class="tag refused">${t("map.problem")}</span>`;
return html`<div class="map" ref=${box}><svg aria-hidden="true">${lines.map((d) => html`<path d=${d} />`)}</svg>
<div><h2>${t("field.sources")}</h2><ul>${sources.map((id) => html`<li data-node=${"source-" + id}><${AgentLink} agent=${agents.get(id)} />${mark(id)}</li>`)}</ul></div>
<div><h2>${t("map.callback")}</h2><ul>${roles.map(({ id, name, current_status: status }) => html`<li data-node=${"role-" + id}><${AgentLink} agent=${{ id, name }} /> ${status === "draft" && html`<span class="tag">${word("agent_status", status)}</span>`}${mark(id)}</li>`)}</ul></div>
<div><h2>${t("field.numbers")}</h2><ul>${numbers.map(({ id, number }) => html`<li data-node=${"number-" + id}><a href=${link("manage", { section: "numbers", id })}>${number}</a>${mark(id)}</li>`)}</ul></div></div>`;
}
export default function Map_() {
const { search } = place.value.params;
const { answer, failure, busy } = useAnswer("/callback-agents");
const known = useAnswer("/problems");
const [agents, set] = useState();
const all = answer?.data ?? [];
const fits = all.filter(({ name, label }) => !search || `${name} ${label}`.toLowerCase().includes(search.toLowerCase()));
const roles = fits.slice(0, SHOWN);
const wanted = [...new Set(roles.flatMap(({ id, callback_config: role }) => [id, ...role.source_agent_ids.slice(0, SHOWN)]))];
useEffect(() => {
if (!answer) return undefined;
let current = true;
set();
agentsWith(wanted).then((found) => { if (current) set(found); });
return () => { current = false; };
}, [answer, search]);
const problems = new Set((known.answer?.data ?? []).map(({ objects: [first] }) => first.id));
const names = (list) => list.map((agent, index) => html`${index ? ", " : ""}<${AgentLink} agent=${agent} />`);
return html`<${Page} title=${t("map.title")} busy=${busy || known.busy || (answer && !agents)}>
<p>${t("map.about")}</p>
<form class="search" role="search" onSubmit=${(event) => { event.preventDefault(); go(link("map", Object.fromEntries(new FormData(event.target)))); }} key=${search}>
<${Field} label=${t("manage.search")}><input type="search" name="search" defaultValue=${search ?? ""} /><//><p class="buttons"><button class="primary">${t("find.search")}</button></p></form>
<${Alert} failure=${failure ?? known.failure} />
${answer && !roles.length && html`<${Empty}>${t(all.length ? "manage.none" : "role.none")}<//>`}
${fits.length > SHOWN && html`<p class="notice">${t("map.more", { shown: SHOWN, count: fits.length })}</p>`}
${agents && roles.length > 0 && html`<${Drawing} roles=${roles} agents=${agents} problems=${problems} />
<section><table class="rows"><caption>${t("map.list")}</caption><thead><tr><th scope="col">${t("field.sources")}</th><th scope="col">${t("map.callback")}</th><th scope="col">${t("field.numbers")}</th></tr></thead>
<tbody>${roles.map(({ id, name, callback_config: role }) => html`<tr key=${id}><td data-label=${t("field.sources")}><span>${names(role.source_agent_ids.map((source) => agents.get(source)).filter(Boolean))}</span></td>
<td data-label=${t("map.callback")}><span><${AgentLink} agent=${{ id, name }} />${problems.has(id) && html` <span class="tag refused">${t("map.problem")}</span>`}</span></td>
<td data-label=${t("field.numbers")}>${(agents.get(id)?.phone_numbers ?? []).map(({ number }) => number).join(", ")}</td></tr>`)}</tbody></table></section>`}<//>`;
}
