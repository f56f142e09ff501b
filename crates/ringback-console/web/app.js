// The frame around all views, and signing in.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { useSignal } from "@preact/signals";
import { chooseEnvironment, chooseLanguage, chooseTheme, ended, findSession, go, isAdministrator, language, link, place, query, ready, session, signIn, signOut, signedOut, t, theme, useLanguage, ask } from "./state.js";
import { Alert, Field, Name, Page, html } from "./ui.js";
import { Find } from "./find.js";

const views = {
  find: () => Promise.resolve({ default: Find }),
  explain: () => import("./explain.js"),
  problems: () => import("./problems.js"),
  map: () => import("./map.js"),
  manage: () => import("./manage.js"),
  contact: () => import("./contact.js"),
  statistics: () => import("./statistics.js"),
  audit: () => import("./audit.js"),
  node: () => import("./node.js"),
};
// Views that show an environment: the administrator chooses one first. Without one, the audit is of all of them.
const ofEnvironment = (view) => !["node", "audit"].includes(view) && !(view === "manage" && ["environments", "tokens"].includes(place.value.params.section));

function Controls() {
  return html`<div class="controls">
    <label><span>${t("language")}</span><select id="language" value=${language.value} onChange=${(event) => chooseLanguage(event.target.value)}>
      <option value="en" lang="en">English</option><option value="pt-BR" lang="pt-BR">Português</option></select></label>
    <label><span>${t("theme")}</span><select id="theme" value=${theme.value} onChange=${(event) => chooseTheme(event.target.value)}>
      ${["system", "light", "dark"].map((name) => html`<option value=${name}>${t("theme." + name)}</option>`)}</select></label></div>`;
}

const Logo = () => html`<span class="logo"><svg viewBox="0 0 32 32" aria-hidden="true"><rect width="32" height="32" rx="7" /><path d="M8 17a8 8 0 1 0 3-6.2M11 5v6h6" /></svg>Ringback</span>`;

function SignIn() {
  const [failure, fail] = useState();
  const busy = useSignal(false);
  const submit = async (event) => {
    event.preventDefault();
    const form = event.target;
    busy.value = true;
    try {
      await signIn(form.elements.token.value);
    } catch (error) {
      fail(error);
      form.elements.token.select();
    } finally {
      busy.value = false;
    }
  };
  const wrong = failure?.status === 401;
  return html`<div class="sign-in"><header><${Logo} /><${Controls} /></header>
    <main data-page="sign-in" aria-busy="false"><h1>${t("signin.title")}</h1><p>${t("signin.about")}</p>
    ${signedOut.value && !failure && html`<${Alert}>${t(signedOut.value)}<//>`}
    <${Alert} failure=${wrong ? undefined : failure}>${wrong && t("signin.wrong")}<//>
    <form id="sign-in" onSubmit=${submit}>
      <${Field} label=${t("signin.token")} hint=${t("signin.hint")}><input name="token" type="password" required autocomplete="current-password" spellcheck="false" autofocus /><//>
      <button class="primary" disabled=${busy.value}>${t("signin.submit")}</button></form></main></div>`;
}

// Chooses the environment in which the administrator acts.
function EnvironmentChoice() {
  const [list, set] = useState([]);
  const chosen = session.value?.environment;
  useEffect(() => { ask("/environments").then(({ data }) => set(data), () => {}); }, [session.value, place.value.view]);
  const all = chosen && !list.some(({ id }) => id === chosen.id) ? [chosen, ...list] : list;
  return html`<label class="environment"><span>${t("environment")}</span><select id="environment" value=${chosen?.id ?? ""} onChange=${(event) => chooseEnvironment(event.target.value)}>
    <option value="">${t("environment.none")}</option>
    ${all.map(({ id, name }) => html`<option value=${id} selected=${id === chosen?.id}>${name.slice(0, 80)}</option>`)}</select></label>`;
}

function Frame() {
  const { view } = place.value;
  useEffect(() => { if (!views[view]) go(link("find"), { replace: true }); }, [view]);
  const [module, load] = useState({});
  useEffect(() => {
    let current = true;
    views[view]?.().then((loaded) => { if (current) load({ view, View: loaded.default }); }, () => load({ view, failed: true }));
    return () => { current = false; };
  }, [view]);
  // On a small screen the views are a row to be pushed. Not by scrollIntoView: the next Tab would begin there.
  useEffect(() => {
    const row = document.querySelector("nav.views");
    const current = row?.querySelector("[aria-current]");
    if (current) row.scrollLeft = current.offsetLeft - (row.clientWidth - current.offsetWidth) / 2;
  }, [view]);
  const who = session.value;
  const needsEnvironment = who.kind === "administrator" && !who.environment && ofEnvironment(view);
  const { View } = module.view === view ? module : {};
  let main = html`<${Page} title=${t("nav." + view)} busy=${!module.failed}><${Alert}>${module.failed && t("failure.network")}<//><//>`;
  if (needsEnvironment) {
    main = html`<${Page} title=${t("nav." + view)}><p class="empty">${t("environment.choose")}</p>
      <p><a href=${link("manage", { section: "environments" })}>${t("environment.manage")}</a></p><//>`;
  } else if (View) {
    main = html`<${View} key=${(who.environment?.id ?? "") + view} />`;
  }
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); document.querySelector("h1")?.focus(); }}>${t("skip")}</a>
    <header class="frame"><${Logo} />
      ${isAdministrator.value ? html`<${EnvironmentChoice} />` : html`<span class="environment"><${Name}>${who.environment?.name}<//>${who.masked ? html` <span class="tag">${t("session.masked")}</span>` : ""}</span>`}
      <${Controls} /><button id="sign-out" onClick=${signOut}>${t("signout")}</button></header>
    <nav class="views" aria-label=${t("nav")}><ul>${Object.keys(views).map((name) => html`<li><a href=${link(name)} aria-current=${name === view ? "page" : undefined}>${t("nav." + name)}</a></li>`)}</ul></nav>
    ${main}`;
}

function App() {
  if (!ready.value || session.value === undefined) return null;
  return session.value ? html`<${Frame} />` : html`<${SignIn} />`;
}

if (location.pathname === "/console/") go("/console/find" + location.hash, { replace: true });
// A session that ends elsewhere is noticed when the page is looked at again.
addEventListener("visibilitychange", () => {
  if (!document.hidden && session.value) ask("/session").then(({ data }) => { if (!data) ended(); }, () => {});
});
await Promise.all([useLanguage(language.value), findSession()]);
render(html`<${App} />`, document.body);
