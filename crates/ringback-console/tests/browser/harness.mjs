// A server with data in it, and a browser to look at it.
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createSocket } from "node:dgram";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";

const require = createRequire(process.env.PACKAGES + "/");
const { chromium } = require("playwright-core");
const axe = readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");
export const here = dirname(fileURLToPath(import.meta.url));

export const administrator = "only-for-the-tests-of-this-program-0001";

/** Names that would break a careless page. */
export const hostile = {
  markup: `<img src=x onerror="window.harmed=1"><script>window.harmed=1</script>`,
  turned: "\u202eadminis\u200frator\u202c שלום",
  long: "x".repeat(250),
};

/** Starts a server. */
export async function startServer(options = []) {
  const folder = mkdtempSync(join(tmpdir(), "ringback-console-"));
  const child = spawn(process.env.RINGBACK, ["serve", "--data-dir", join(folder, "data"), "--sip-udp", "127.0.0.1:0", "--http", "127.0.0.1:0", ...options],
    { env: { ...process.env, RINGBACK_ADMIN_TOKEN: administrator }, stdio: ["ignore", "pipe", "pipe"] });
  let log = "";
  child.stderr.on("data", (data) => { log += data; });
  const lines = createInterface({ input: child.stdout });
  const [line] = await Promise.race([
    new Promise((resolve) => lines.once("line", (text) => resolve([text]))),
    new Promise((_, reject) => child.once("exit", (code) => reject(new Error(`the server ended: ${code} ${log}`)))),
  ]);
  const ready = JSON.parse(line);
  const url = `http://${ready.http}`;
  const api = async (token, method, path, body) => {
    const response = await fetch(url + "/api/v1" + path, { method, headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { "content-type": "application/json" }) }, body: body === undefined ? undefined : JSON.stringify(body) });
    const answer = await response.json();
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${JSON.stringify(answer)}`);
    return answer.data;
  };
  return {
    url, api, sip: ready.sip_udp,
    stop: () => new Promise((resolve) => { child.once("exit", () => { rmSync(folder, { recursive: true, force: true }); resolve(); }); child.kill(); }),
  };
}

/** Sends a call over SIP every 20 ms, each of another contact, until it is stopped. */
export function callBySip(address) {
  const [host, port] = address.split(":");
  const socket = createSocket("udp4");
  let number = 0;
  const timer = setInterval(() => {
    number += 1;
    const invite = [`INVITE sip:+551130000000@${address} SIP/2.0`, `Via: SIP/2.0/UDP ${host};rport;branch=z9hG4bK${number}-${process.pid}`, "Max-Forwards: 70",
      `From: <sip:+55119800${String(number).padStart(5, "0")}@${host}>;tag=${number}`, `To: <sip:+551130000000@${address}>`, `Call-ID: by-sip-${number}@${host}`,
      "CSeq: 1 INVITE", `Contact: <sip:caller@${host}>`, "Content-Length: 0", "", ""].join("\r\n");
    socket.send(invite, Number(port), host);
  }, 20);
  return () => { clearInterval(timer); socket.close(); };
}

/** An environment with agents, numbers, roles, remembered calls and decisions. */
export async function fill(server, name = "Acme") {
  const { api } = server;
  const environment = await api(administrator, "POST", "/environments", { name, default_country: "BR", target_template: "sip:{agent_id}@agents.example.com" });
  const { token, id: tokenId } = await api(administrator, "POST", `/environments/${environment.id}/tokens`, { name: "console" });
  const number = async (digits) => api(token, "POST", "/phone-numbers", { number: digits });
  const agent = async (body, publish = true) => {
    const made = await api(token, "POST", "/agents", { label: body.name, ...body });
    if (publish) await api(token, "POST", `/agents/${made.id}/publish`);
    return made;
  };
  const [main, second, silent] = [await number("+551130000000"), await number("+551130000001"), await number("+551130000002")];
  const own = [main.id, second.id];
  const sales = await agent({ name: "Sales", direction: "outbound", phone_number_ids: own });
  const reception = await agent({ name: "Reception", direction: "inbound", phone_number_ids: own });
  const returns = await agent({ name: "Returns", direction: "inbound", phone_number_ids: own });
  const survey = await agent({ name: hostile.markup, direction: "outbound", phone_number_ids: own, description: hostile.markup });
  const turned = await agent({ name: hostile.turned, direction: "outbound", phone_number_ids: own });
  const draft = await agent({ name: hostile.long, direction: "inbound", phone_number_ids: own }, false);
  await api(token, "PATCH", `/phone-numbers/${main.id}`, { default_agent_id: reception.id });
  await api(token, "POST", `/agents/${returns.id}/callback`, { source_agent_ids: [sales.id], callback_trigger_statuses: ["completed", "no_answer"] });
  await api(token, "POST", `/agents/${draft.id}/callback`, { source_agent_ids: [survey.id] });
  const call = (agent, to, status, sid, from = "+551130000000") => api(token, "POST", "/calls", { agent_id: agent.id, to, from, status, sid });
  await call(sales, "+5511987654321", "completed", "out-1");
  await call(sales, "+5511987654322", "busy", "out-2");
  await call(survey, "+5511987654323", "completed", hostile.markup);
  await call(turned, "+5511987654324", "completed", "out-4");
  await call(sales, "+5511987654325", "no_answer", "out-5", "+551130000001");
  const route = (from, to, sid) => api(token, "POST", "/route", { from, to, sid });
  await route("+5511987654321", "+551130000000", "in-1@203.0.113.7");
  await route("+5511987654322", "+551130000000", "in-2@203.0.113.7");
  await route("+5511987654323", "+551130000000", hostile.markup);
  await route("+5511987654324", "+551130000000", hostile.turned);
  await route("+5511987654325", "+551130000000", "in-5@203.0.113.7");
  await route("", "+551130000001", "in-6@203.0.113.7");
  await route("+5511900000000", "+551130000002", "in-7@203.0.113.7");
  await route("+5511900000000", hostile.markup, "in-8@203.0.113.7");
  return { environment, token, tokenId, main, second, silent, sales, reception, returns, survey, turned, draft, route };
}

/** An environment as a company may have it, for pictures. */
export async function fillForPictures(server) {
  const { api } = server;
  const environment = await api(administrator, "POST", "/environments", { name: "Acme", default_country: "BR", target_template: "sip:{agent_id}@agents.example.com" });
  const { token } = await api(administrator, "POST", `/environments/${environment.id}/tokens`, { name: "PBX" });
  const numbers = [];
  for (const digits of ["+551130000000", "+551130000001", "+551130000002"]) numbers.push((await api(token, "POST", "/phone-numbers", { number: digits })).id);
  const agent = async (name, direction, owned, publish = true) => {
    const made = await api(token, "POST", "/agents", { name, label: name, direction, phone_number_ids: owned.map((index) => numbers[index]) });
    if (publish) await api(token, "POST", `/agents/${made.id}/publish`);
    return made;
  };
  const reception = await agent("Reception", "inbound", [0, 1]);
  const sales = await agent("Solar sales", "outbound", [0, 1]);
  const survey = await agent("Customer survey", "outbound", [1]);
  await agent("Night collections", "outbound", [0]);
  const returns = await agent("Solar returns", "inbound", [0, 1]);
  const surveyReturns = await agent("Survey returns", "inbound", [1], false);
  await api(token, "PATCH", `/phone-numbers/${numbers[0]}`, { default_agent_id: reception.id });
  await api(token, "POST", `/agents/${returns.id}/callback`, { source_agent_ids: [sales.id], callback_trigger_statuses: ["completed", "no_answer", "busy"] });
  await api(token, "POST", `/agents/${surveyReturns.id}/callback`, { source_agent_ids: [survey.id] });
  const statuses = ["completed", "no_answer", "busy", "voicemail", "completed", "failed"];
  for (let index = 0; index < 24; index += 1) {
    const contact = `+55119876543${21 + index}`;
    const [from, by] = index % 5 === 4 ? ["+551130000001", survey] : ["+551130000000", sales];
    const started_at = new Date(Date.now() - (index + 1) * 3_700_000).toISOString();
    await api(token, "POST", "/calls", { agent_id: by.id, to: contact, from, status: statuses[index % 6], sid: `out-${index + 1}`, started_at });
    await api(token, "POST", "/route", { from: index === 7 ? "anonymous" : contact, to: index % 4 === 3 ? "+551130000001" : "+551130000000", sid: `in-${index + 1}@203.0.113.7` });
  }
  await api(token, "POST", "/route", { from: "+5521987650000", to: "+551130000002", sid: "in-25@203.0.113.7" });
  await api(token, "POST", "/route", { from: "+5511987654321", to: "+551130000000", sid: "in-1@203.0.113.7" });
  await api(token, "POST", "/routed-calls/in-1%40203.0.113.7/answered");
  return { returns };
}

export async function startBrowser() {
  return chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox", "--disable-gpu"] });
}

/** A page that tells of everything that goes wrong in it. */
export async function openPage(browser, server, { width = 1280, locale = "en-US", scheme = "light", ...options } = {}) {
  const context = await browser.newContext({ viewport: { width, height: 900 }, locale, colorScheme: scheme, timezoneId: "America/Sao_Paulo", reducedMotion: "reduce", ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  const trouble = [];
  const foreign = [];
  page.on("pageerror", (error) => trouble.push(String(error)));
  page.on("console", (message) => { if (message.type() === "error" && !/status of (401|403|404|409|422|429)|ERR_INTERNET_DISCONNECTED/.test(message.text())) trouble.push(message.text()); });
  page.on("request", (request) => { if (!request.url().startsWith(server.url) && !/^(blob|data):/.test(request.url())) foreign.push(request.url()); });
  return Object.assign(page, { trouble, foreign, base: server.url });
}

/** Waits until the page shows its data. */
export const shown = (page, view) => page.waitForSelector(`main[data-page="${view}"][aria-busy="false"]`);

export async function visit(page, view, hash = "") {
  await page.goto(`${page.base}/console/${view}${hash}`);
  await shown(page, view);
}

export async function signIn(page, token, view = "find") {
  await page.goto(`${page.base}/console/${view}`);
  await page.fill("form#sign-in input[name=token]", token);
  await page.click("form#sign-in button");
  await page.waitForSelector("#sign-out");
}

/** What axe finds wrong. */
export async function accessibility(page) {
  await page.evaluate(axe);
  return page.evaluate(async () => {
    const { violations } = await window.axe.run(document, { resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`);
  });
}
