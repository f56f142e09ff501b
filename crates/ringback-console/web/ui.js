// The pieces that views are made of.
import { h } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { useSignal } from "@preact/signals";
import htm from "htm";
import { arrival, ask, explainFailure, link, place, session, showTime, t, word } from "./state.js";

export const html = htm.bind(h);

// Control characters and marks that turn the direction of text are shown as escapes.
export const visible = (text) => String(text).replace(/[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202f\u2060-\u206f\ufeff]/g,
  (char) => "\\u" + char.charCodeAt(0).toString(16).padStart(4, "0"));

// A name that somebody chose: text, whatever stands in it.
export const Name = ({ children, title }) => {
  const text = visible(children ?? "");
  return html`<bdi class="name" title=${title}>${text.length > 160 ? text.slice(0, 160) + "…" : text}</bdi>`;
};

export const Time = ({ at }) => html`<time datetime=${at}>${showTime(at)}</time>`;

export const AgentLink = ({ agent }) => !agent ? "" : html`<a href=${link("manage", { section: "agents", id: agent.id })}>
  ${agent.name === null ? html`<span class="quiet">${t("agent.deleted")}</span>` : html`<${Name}>${agent.name}<//>`}</a>`;

// The name of an agent, once it is known; its identifier where it is not.
export function AgentName({ id }) {
  const { answer } = useAnswer(session.value?.environment ? `/agents/${id}` : null);
  return html`<${Name}>${answer?.data.name ?? id}<//>`;
}

export const NumberText = ({ children }) => children ? html`<span class="number">${children}</span>` : html`<span class="quiet">${t("number.none")}</span>`;

export const Outcome = ({ name }) => html`<span class="outcome ${name}">${word("outcome", name)}</span>`;

export const Alert = ({ failure, children }) => failure || children
  ? html`<p role="alert" class="alert">${failure ? explainFailure(failure) : children}</p>` : null;

// A page: its title, its content, and whether its data is shown.
export function Page({ title, busy = false, children, actions }) {
  const heading = useRef();
  const view = place.value.view;
  useEffect(() => { document.title = `${title} · Ringback`; }, [title]);
  useEffect(() => {
    if (arrival.isNew && !document.activeElement?.closest("main")) heading.current?.focus({ preventScroll: true });
    if (!busy) arrival.isNew = false;
  }, [view, busy]);
  return html`<main id="main" data-page=${view} aria-busy=${busy ? "true" : "false"}>
    <header class="title"><h1 ref=${heading} tabindex="-1">${title}</h1>${actions}</header>${children}</main>`;
}

// What the API answers to a path; asked again when the path changes, or by `again`.
export function useAnswer(path) {
  const [state, set] = useState({ path: null });
  const round = useSignal(0);
  const now = round.value;
  useEffect(() => {
    if (!path) return undefined;
    const stop = new AbortController();
    ask(path, { signal: stop.signal }).then(
      (answer) => set({ path, now, answer }),
      (failure) => { if (failure.name !== "AbortError") set({ path, now, failure }); },
    );
    return () => stop.abort();
  }, [path, now]);
  const isFresh = state.path === path && state.now === now;
  return {
    busy: Boolean(path) && !isFresh,
    // While the next answer is on its way the last one of the same path stays.
    answer: state.path === path ? state.answer : undefined,
    failure: isFresh ? state.failure : undefined,
    again: () => { round.value += 1; },
  };
}

// A labelled field of a form.
let fields = 0;
export function Field({ label, hint, children, wide }) {
  const [id] = useState(() => `field-${++fields}`);
  const child = Array.isArray(children) ? children.find((one) => one?.props) : children;
  child.props.id = id;
  if (hint) child.props["aria-describedby"] = `${id}-hint`;
  return html`<div class="field ${wide ? "wide" : ""}"><label for=${id}>${label}</label>${child}
    ${hint && html`<small id="${id}-hint">${hint}</small>`}</div>`;
}

// Asks before something that cannot be taken back. `check` is typed before the button works.
export function Confirm({ open, title, text, action, check, onYes, onNo }) {
  const dialog = useRef();
  const typed = useSignal("");
  useEffect(() => {
    if (open && !dialog.current.open) { typed.value = ""; dialog.current.showModal(); }
    if (!open && dialog.current.open) dialog.current.close();
  }, [open]);
  return html`<dialog ref=${dialog} onClose=${onNo} aria-labelledby="confirm-title"><form method="dialog" onSubmit=${(event) => { event.preventDefault(); onYes(); }}>
    <h2 id="confirm-title">${title}</h2><p>${text}</p>
    ${check && html`<${Field} label=${t("confirm.digits")}><input name="check" autocomplete="off" inputmode="numeric" value=${typed.value} onInput=${(event) => { typed.value = event.target.value; }} /><//>`}
    <p class="buttons"><button type="button" onClick=${onNo}>${t("cancel")}</button>
    <button class="danger" disabled=${Boolean(check) && typed.value !== check}>${action}</button></p></form></dialog>`;
}

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

// Links to the pages of a list.
export function Pager({ meta, url }) {
  if (!meta || meta.last_page <= 1) return null;
  const { current_page: page, last_page: last } = meta;
  return html`<nav class="pager" aria-label=${t("pager")}>
    ${page > 1 ? html`<a href=${url(page - 1)} rel="prev">${t("pager.previous")}</a>` : html`<span class="quiet">${t("pager.previous")}</span>`}
    <span>${t("pager.page", { page, last })}</span>
    ${page < last ? html`<a href=${url(page + 1)} rel="next">${t("pager.next")}</a>` : html`<span class="quiet">${t("pager.next")}</span>`}</nav>`;
}
