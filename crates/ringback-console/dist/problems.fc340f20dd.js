import { link, t } from "./state.098059260a.js";
import { Alert, Empty, Name, Page, html, useAnswer } from "./ui.e645c1d396.js";
const SHOWN = 100;
const Thing = ({ type, id, name }) => {
const url = type === "number" ? link("manage", { section: "numbers", id }) : link("manage", { section: type + "s", id });
return html`<a href=${url}><${Name}>${name}<//></a>`;
};
export default function Problems() {
const { busy, answer, failure, again } = useAnswer("/problems");
const groups = new Map();
for (const problem of answer?.data ?? []) {
if (!groups.has(problem.code)) groups.set(problem.code, []);
groups.get(problem.code).push(problem);
}
return html`<${Page} title=${t("problems.title")} busy=${busy} actions=${html`<button onClick=${again}>${t("again")}</button>`}>
<p>${t("problems.about")}</p><${Alert} failure=${failure} />
${answer && !groups.size && html`<${Empty}>${t("problems.none")}<//>`}
${[...groups].map(([code, list]) => html`<section class="problem ${list[0].severity}" key=${code}>
<h2><span class="severity">${t("severity." + list[0].severity)}</span> ${t("problem." + code)} <span class="count">${list.length}</span></h2>
<p>${t(`problem.${code}.do`)}</p>
<ul>${list.slice(0, SHOWN).map(({ objects: [first, ...others] }) => html`<li><${Thing} ...${first} />
${others.length > 0 && html` <span class="quiet">(${t("problems.by")} ${others.map((other, index) => html`${index ? ", " : ""}<${Thing} ...${other} />`)})</span>`}</li>`)}</ul>
${list.length > SHOWN && html`<p class="quiet">${t("problems.more", { count: list.length - SHOWN })}</p>`}</section>`)}<//>`;
}
