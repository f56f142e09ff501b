// What all views share: who is signed in, the language, the theme, the place, and how the API is asked.
import { signal, effect, computed } from "@preact/signals";

const stored = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
const store = (key, value) => { try { localStorage.setItem(key, value); } catch { /* a private window */ } };

// ---- language
const words = { en: () => import("./en.js"), "pt-BR": () => import("./pt-BR.js") };
const preferred = () => {
  const kept = stored("language");
  if (words[kept]) return kept;
  return (navigator.languages ?? [navigator.language]).find((tag) => /^(pt|en)\b/i.test(tag))?.toLowerCase().startsWith("pt") ? "pt-BR" : "en";
};
export const language = signal(preferred());
const dictionary = signal(null);
export const ready = computed(() => dictionary.value !== null);

export async function useLanguage(tag) {
  const { default: texts } = await words[tag]();
  language.value = tag;
  dictionary.value = texts;
  document.documentElement.lang = tag;
}

export function chooseLanguage(tag) {
  store("language", tag);
  return useLanguage(tag);
}

// The text with this key; `{name}` in it is replaced.
export function t(key, values) {
  const text = dictionary.value?.[key];
  if (text === undefined) {
    console.error(`untranslated: ${key}`);
    return key;
  }
  return values ? text.replace(/\{(\w+)\}/g, (all, name) => String(values[name] ?? all)) : text;
}

// The same for a word of the API, which a newer server may have more of.
export const word = (kind, name) => (dictionary.value?.[`${kind}.${name}`] ? t(`${kind}.${name}`) : String(name).replaceAll("_", " "));

const formatters = new Map();
function formatter(make, kind) {
  const key = `${language.value} ${kind}`;
  if (!formatters.has(key)) formatters.set(key, make(language.value));
  return formatters.get(key);
}
const timeParts = { year: "numeric", month: "short", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short" };
export const showTime = (at) => formatter((tag) => new Intl.DateTimeFormat(tag, timeParts), "time").format(new Date(at));
export const showCount = (count) => formatter((tag) => new Intl.NumberFormat(tag, { maximumFractionDigits: 1 }), "count").format(count);

export function showDuration(seconds) {
  const units = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];
  const [unit, size] = units.find(([, size]) => seconds >= size) ?? units[3];
  return formatter((tag) => new Intl.NumberFormat(tag, { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 1 }), unit).format(seconds / size);
}

// ---- theme
export const theme = signal(["light", "dark"].includes(stored("theme")) ? stored("theme") : "system");
const isDark = matchMedia("(prefers-color-scheme: dark)");
const systemTheme = signal(isDark.matches ? "dark" : "light");
isDark.addEventListener("change", () => { systemTheme.value = isDark.matches ? "dark" : "light"; });
effect(() => { document.documentElement.dataset.theme = theme.value === "system" ? systemTheme.value : theme.value; });
export function chooseTheme(name) {
  store("theme", name);
  theme.value = name;
}

// ---- place: the view and what stands in the fragment
const read = () => ({
  view: /^\/console\/(\w+)$/.exec(location.pathname)?.[1] ?? "find",
  params: Object.fromEntries(new URLSearchParams(location.hash.slice(1))),
});
export const place = signal(read());
const update = () => { place.value = read(); };
addEventListener("popstate", update);
addEventListener("hashchange", update);

export function link(view, params = {}) {
  const given = Object.entries(params).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return `/console/${view}${given.length ? "#" + new URLSearchParams(given) : ""}`;
}

// Whether somebody has just come to a view, so that the keyboard should begin at its title.
export const arrival = { isNew: false };

export function go(url, { replace = false } = {}) {
  arrival.isNew = !replace;
  history[replace ? "replaceState" : "pushState"](null, "", url);
  update();
}

// Links within the console change the view without a new page.
addEventListener("click", (event) => {
  const anchor = event.target.closest?.("a[href^='/console/']");
  if (!anchor || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey || anchor.target) return;
  event.preventDefault();
  go(anchor.getAttribute("href"));
});

// ---- session and API
export const session = signal(undefined);
export const signedOut = signal("");
export const isAdministrator = computed(() => session.value?.kind === "administrator");

// Whether a number is hidden, but for its last digits, from this session.
export const isMasked = (number) => Boolean(number?.includes("*"));

export class Failure extends Error {
  constructor(status, body, retryAfter) {
    super(body?.message ?? "");
    this.status = status;
    this.code = body?.code;
    this.errors = body?.errors;
    this.retryAfter = retryAfter;
  }
}

export function request(path, { method = "GET", body, text, headers = {}, signal } = {}) {
  const all = { ...headers };
  if (body !== undefined) all["content-type"] = "application/json";
  if (text !== undefined) all["content-type"] = "application/x-ndjson";
  if (method !== "GET" && session.value) all["x-csrf-token"] = session.value.csrf_token;
  return fetch("/api/v1" + path, { method, headers: all, body: body === undefined ? text : JSON.stringify(body), signal, credentials: "same-origin" });
}

// The whole answer of a request, or a failure.
export async function ask(path, options) {
  let response;
  try {
    response = await request(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure(0);
  }
  const answer = await response.json().catch(() => null);
  if (response.ok) return answer;
  if (response.status === 401 && path !== "/session") ended();
  throw new Failure(response.status, answer, Number(response.headers.get("retry-after")) || undefined);
}

export function ended() {
  if (session.value) signedOut.value = "session.ended";
  session.value = null;
}

export const query = (values) => {
  const given = Object.entries(values).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? "?" + new URLSearchParams(given) : "";
};

export async function findSession() {
  try {
    session.value = (await ask("/session")).data;
  } catch {
    signedOut.value = "failure.network";
    session.value = null;
  }
}

export async function signIn(token) {
  arrival.isNew = true;
  session.value = (await ask("/session", { method: "POST", body: { token } })).data;
  signedOut.value = "";
}

export async function signOut() {
  try {
    await ask("/session", { method: "DELETE" });
  } catch { /* it has ended by itself */ }
  session.value = null;
}

export async function chooseEnvironment(id) {
  session.value = (await ask("/session", { method: "PATCH", body: { environment_id: id || null } })).data;
}

// What went wrong, for people.
export function explainFailure(failure) {
  if (!(failure instanceof Failure)) return String(failure);
  if (failure.status === 0) return t("failure.network");
  if (failure.status === 429) return t("failure.wait", { seconds: failure.retryAfter ?? 60 });
  const known = failure.code && dictionary.value?.[`failure.${failure.code}`];
  const lines = Array.isArray(failure.errors) ? failure.errors : Object.values(failure.errors ?? {}).flat();
  return [known ?? failure.message, ...lines].join(" ") || t("failure.status", { status: failure.status });
}
