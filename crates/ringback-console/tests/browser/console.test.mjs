import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { accessibility, administrator, callBySip, fill, fillForPictures, hostile, openPage, shown, signIn, startBrowser, startServer, visit } from "./harness.mjs";
import { withPalette } from "./png.mjs";

let server;
let browser;
let acme;

before(async () => {
  server = await startServer();
  acme = await fill(server);
  browser = await startBrowser();
});
after(async () => {
  await browser?.close();
  await server?.stop();
});

/** Runs with a page that is closed afterwards, and fails if anything went wrong in it. */
const looking = (options, look) => async () => {
  const page = await openPage(browser, server, options);
  try {
    await look(page);
    assert.deepEqual(page.trouble, []);
    assert.deepEqual(page.foreign, []);
    assert.equal(await page.evaluate(() => window.harmed), undefined);
  } finally {
    await page.context().close();
  }
};

const decisions = (page) => page.locator("table.decisions tbody tr");
const views = {
  find: [""],
  explain: ["", `#from=${encodeURIComponent("+5511987654321")}&to=${encodeURIComponent("+551130000000")}`, `#call_id=${encodeURIComponent(hostile.markup)}`, `#call_id=${encodeURIComponent(hostile.turned)}`],
  problems: [""],
  map: ["", "#search=nobody"],
  statistics: [""],
  manage: ["", "#section=numbers", "#section=roles", "#section=import", "#section=tokens", "#section=environments", "#section=agents&id=new", "#survey", "#draft", "#returns", "#main"],
  audit: ["", "#type=role", "#actor=administrator&type=token", "#type=cluster"],
  contact: ["", `#number=${encodeURIComponent("+5511987654323")}`],
  node: [""],
};
const resolved = (hash) => {
  const name = hash.slice(1);
  if (!(name in acme)) return hash;
  return `#section=${name === "main" ? "numbers" : "agents"}&id=${acme[name].id}`;
};

describe("signing in", () => {
  test("a wrong token is refused with words, and the right one opens the console", looking({}, async (page) => {
    await page.goto(server.url + "/");
    assert.equal(new URL(page.url()).pathname, "/console/find");
    await page.fill("input[name=token]", "wrong");
    await page.click("#sign-in button");
    assert.match(await page.textContent("[role=alert]"), /not known/);
    assert.equal(await page.getAttribute("input[name=token]", "type"), "password");
    await page.fill("input[name=token]", acme.token);
    await page.keyboard.press("Enter");
    await shown(page, "find");
    const cookies = await page.context().cookies();
    assert.deepEqual(cookies.map(({ name, httpOnly, sameSite }) => [name, httpOnly, sameSite]), [["ringback_session", true, "Strict"]]);
    assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), []);
    await page.click("#sign-out");
    await page.waitForSelector("#sign-in");
    await page.reload();
    await page.waitForSelector("#sign-in");
  }));

  test("a session that ends asks to sign in again and says so", looking({}, async (page) => {
    const { token, id } = await server.api(administrator, "POST", `/environments/${acme.environment.id}/tokens`, { name: "short" });
    await signIn(page, token);
    await shown(page, "find");
    await server.api(administrator, "DELETE", `/environments/${acme.environment.id}/tokens/${id}`);
    await page.waitForSelector("#sign-in");
    assert.match(await page.textContent("[role=alert]"), /ended/);
  }));

  test("without a network the page says that the server cannot be reached", looking({}, async (page) => {
    await signIn(page, acme.token);
    await shown(page, "find");
    await page.context().setOffline(true);
    await page.fill("input[type=search]", "Sales");
    await page.keyboard.press("Enter");
    await page.waitForSelector("[role=alert]");
    assert.match(await page.textContent("[role=alert]"), /cannot be reached/);
    await page.context().setOffline(false);
  }));
});

describe("find and explain", () => {
  test("the one box finds calls by number, agent, reason and Call-ID, and the link keeps the filter", looking({}, async (page) => {
    await signIn(page, acme.token);
    await shown(page, "find");
    assert.equal(await decisions(page).count(), 8);
    for (const [typed, count, hash] of [["98765432 1", 1, "#number=987654321"], ["sales", 2, "#agent=sales"], ["the call's status does not count", 1, "#reason=status_not_eligible"], ["in-5@203", 1, "#call_id=in-5%40203"], ["<img src=x onerror=alert(1)>", 0, undefined]]) {
      await page.click("a:has-text('Clear')");
      await page.fill("input[type=search]", typed);
      await page.keyboard.press("Enter");
      await page.waitForFunction((hash) => !hash || location.hash === hash, hash);
      await page.waitForFunction((count) => document.querySelector("main[aria-busy=false]") && document.querySelectorAll("table.decisions tbody tr").length === count, count);
    }
    await visit(page, "find", "#outcome=default&agent=Reception");
    await page.waitForFunction(() => document.querySelectorAll("table.decisions tbody tr").length > 1);
    assert.equal(await page.inputValue("select[name=outcome]"), "default");
    assert.equal(await page.inputValue("input[type=search]"), "Reception");
  }));

  test("a call is explained rung by rung, in both languages", looking({}, async (page) => {
    await signIn(page, acme.token);
    await shown(page, "find");
    await page.locator("tr", { hasText: "in-1@" }).locator("a.open").click();
    await shown(page, "explain");
    assert.match(await page.textContent(".headline"), /Callback The call went to Returns/);
    const held = page.locator(".rung.held h3");
    assert.deepEqual((await held.allTextContents()).map((text) => text.replace(/ held$/, "").trim()), ["Remembered call", "Callback from the same number"]);
    assert.match(await page.locator(".rung.untried").last().textContent(), /Not tried/);
    assert.match(await page.textContent(".targets"), /sip:.*@agents\.example\.com/);
    await page.selectOption("#language", "pt-BR");
    await page.waitForFunction(() => document.documentElement.lang === "pt-BR");
    assert.match(await page.textContent(".headline"), /Retorno A ligação foi para Returns/);
    await page.reload();
    await shown(page, "explain");
    assert.match(await page.textContent("h1"), /Por que/);
    await visit(page, "explain", "#call_id=in-2%40203.0.113.7");
    assert.match(await page.textContent(".considered"), /O status da ligação não conta/);
    assert.deepEqual(await page.evaluate(() => Object.keys(localStorage)), ["language"]);
  }));

  test("what has changed since the call is said", looking({}, async (page) => {
    await acme.route("+5511987654325", "+551130000001", "changed@203.0.113.7");
    await server.api(acme.token, "POST", `/agents/${acme.returns.id}/unpublish`);
    await signIn(page, acme.token);
    await visit(page, "explain", "#call_id=changed%40203.0.113.7");
    await page.waitForSelector(".notice");
    assert.match(await page.textContent(".notice"), /today the same call would go elsewhere.*Default.*Reception.*draft/);
    await server.api(acme.token, "POST", `/agents/${acme.returns.id}/publish`);
  }));

  test("decisions appear as they happen, filtered ones too, and not while paused", looking({}, async (page) => {
    await signIn(page, acme.token);
    await shown(page, "find");
    await page.waitForSelector(".live.live");
    await acme.route("+5511987654321", "+551130000000", "live-1");
    await page.waitForSelector("tr.fresh:has-text('live-1')");
    await visit(page, "find", "#number=7654322");
    await page.waitForSelector(".live.live");
    await acme.route("+5511987654321", "+551130000000", "live-2");
    await acme.route("+5511987654322", "+551130000000", "live-3");
    await page.waitForSelector("tr.fresh:has-text('live-3')");
    assert.equal(await page.locator("tr:has-text('live-2')").count(), 0);
    await page.click("button[aria-pressed]");
    await page.waitForSelector(".live.paused");
    assert.match(page.url(), /paused=1/);
  }));

  test("what happens while the page is hidden is shown when it is seen again", looking({}, async (page) => {
    await signIn(page, acme.token);
    await shown(page, "find");
    const hide = (hidden) => page.evaluate((hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      dispatchEvent(new Event("visibilitychange"));
    }, hidden);
    let streams = 0;
    page.on("request", (request) => { if (request.url().endsWith("/stream")) streams += 1; });
    for (const name of ["hidden-1", "hidden-2"]) {
      await page.waitForSelector(".live.live");
      const ended = page.waitForEvent("requestfailed", (request) => request.url().endsWith("/stream"));
      await hide(true);
      await ended;
      await acme.route("+5511987654321", "+551130000000", name);
      await hide(false);
      await page.waitForSelector(`tr:has-text('${name}')`);
      await acme.route("+5511987654321", "+551130000000", `after-${name}`);
      await page.waitForSelector(`tr.fresh:has-text('after-${name}')`);
    }
    assert.ok(streams >= 2, String(streams));
  }));

  test("the list is saved as CSV, in which no cell is a formula", looking({}, async (page) => {
    await signIn(page, acme.token);
    await shown(page, "find");
    const [file] = await Promise.all([page.waitForEvent("download"), page.click("text=Save as CSV")]);
    const { readFileSync } = await import("node:fs");
    const text = readFileSync(await file.path(), "utf8");
    assert.match(text, /^at,via,from,to,outcome,reason,agent,source_agent,call_id\r\n/);
    assert.match(text, /,\+5511987654321,\+551130000000,callback,returned_call_same_number,Returns,Sales,in-1@203\.0\.113\.7\r\n/);
    assert.ok(text.includes(`,"${hostile.markup.slice(0, 64).replaceAll('"', '""')}"\r\n`), text);
  }));
});

describe("problems, contacts, node", () => {
  test("numbers that would not ring anybody are listed with a link", looking({}, async (page) => {
    await signIn(page, acme.token, "problems");
    await shown(page, "problems");
    const section = page.locator("section.problem", { hasText: "Numbers that would not ring anybody" });
    assert.match(await section.textContent(), /Error/);
    await section.locator("a", { hasText: "+551130000002" }).click();
    await shown(page, "manage");
    await page.waitForSelector("h2:has-text('+551130000002')");
  }));

  test("a contact is erased only after its last four digits were typed", looking({}, async (page) => {
    await server.api(acme.token, "POST", "/calls", { agent_id: acme.sales.id, to: "+5511955554444", status: "completed", sid: "to-erase" });
    await signIn(page, acme.token);
    await visit(page, "contact", "#number=%2B5511955554444");
    await page.waitForSelector("td:has-text('Sales')");
    await page.click("button:has-text('Erase contact')");
    const erase = page.locator("dialog[open] button.danger");
    assert.equal(await erase.textContent(), "Erase +5511955554444");
    assert.ok(await erase.isDisabled());
    await page.fill("dialog[open] input", "4444");
    await erase.click();
    await page.waitForSelector(".empty:has-text('Nothing is remembered')");
  }));

  test("a masked token sees no whole numbers, and erases a contact that it can name", looking({}, async (page) => {
    const masked = await server.api(administrator, "POST", `/environments/${acme.environment.id}/tokens`, { name: "support", masked: true });
    await server.api(acme.token, "POST", "/calls", { agent_id: acme.sales.id, to: "+5511955556666", status: "completed", sid: "masked" });
    await acme.route("+5511955556666", "+551130000000", "in-masked@203.0.113.7");
    await signIn(page, masked.token);
    await shown(page, "find");
    await page.waitForSelector("header.frame .tag:has-text('numbers hidden')");
    assert.doesNotMatch(await page.textContent("main"), /\+55119/);
    await visit(page, "find", "#number=119555");
    assert.match(await page.textContent("[role=alert]"), /all digits/);
    await visit(page, "find", "#number=5511955556666");
    await decisions(page).first().locator("a.open").click();
    await shown(page, "explain");
    assert.match(await page.textContent(".verdict"), /\+\*{11}66/);
    assert.match(await page.textContent(".notice"), /does not see who called/);
    await visit(page, "contact", "#number=%2B5511955556666");
    assert.equal(await page.textContent("main section h2"), "+***********66");
    await page.click("button:has-text('Erase contact')");
    await page.fill("dialog[open] input", "6666");
    await page.click("dialog[open] button.danger");
    await page.waitForSelector(".empty:has-text('Nothing is remembered')");
  }));

  test("the administrator chooses an environment and sees what was refused", looking({}, async (page) => {
    await signIn(page, administrator);
    await page.waitForSelector("text=Choose an environment");
    await page.selectOption("#environment", { label: "Acme" });
    await shown(page, "find");
    await page.waitForSelector("table.decisions");
    await page.click("nav.views >> text=Node");
    await shown(page, "node");
    assert.match(await page.textContent("main"), /Dialed number unknown/);
    await page.reload();
    await shown(page, "node");
    assert.equal(await page.inputValue("#environment"), acme.environment.id);
  }));

  test("an environment's session is told that the node is the administrator's", looking({}, async (page) => {
    await signIn(page, acme.token, "node");
    await page.waitForSelector("text=needs the administrator's token");
  }));
});

describe("a cluster", () => {
  const node = (name, state, lag) => ({ node: name, version: "0.1.0", url: `http://${name}.example.com:8080`, applied_sequence: 7 - lag, lag, digest: "66687aadf862bd776c8fc18b8e9f8e20", digest_sequence: 7, seen_at: "2026-11-21T12:00:00.000Z", state });
  const answer = {
    name: "ringback", node: "a", connected: true, agree: false, durability: { ok: false, problems: [hostile.markup] }, nodes: [node("a", "current", 0), node(hostile.markup, "catching_up", 3), node("c", "gone", 5)],
    stream: { name: "RINGBACK_ringback", created_at: "2026-11-21T12:00:00.000Z", first_sequence: 1, last_sequence: 7, bytes: 1337, replicas: 3, leader: null },
  };

  for (const [lang, width, behind] of [["en-US", 1280, /catching up.*3/], ["pt-BR", 360, /alcançando.*3/]]) {
    test(`shows which node is behind, and what is wrong: ${lang}, ${width} px`, looking({ locale: lang, width }, async (page) => {
      await page.route("**/api/v1/cluster", (route) => route.fulfill({ json: { success: true, data: answer } }));
      await signIn(page, administrator, "node");
      await shown(page, "node");
      assert.match(await page.locator("tr", { hasText: "<img" }).first().textContent(), behind);
      const alerts = await page.locator("[role=alert]").allTextContents();
      assert.equal(alerts.length, 2);
      assert.ok(alerts[1].includes(hostile.markup), alerts[1]);
      assert.deepEqual(await accessibility(page), []);
      const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
      assert.ok(inner <= outer, `${inner} > ${outer}`);
    }));
  }

  test("is not spoken of on a server that is in none", looking({}, async (page) => {
    await signIn(page, administrator, "node");
    await shown(page, "node");
    assert.doesNotMatch(await page.textContent("main"), /Cluster/);
    assert.equal(await page.locator("[role=alert]").count(), 0);
  }));
});

describe("map and statistics", () => {
  test("the map joins sources, callback agents and numbers, marks problems, and is a list, too", looking({}, async (page) => {
    await signIn(page, acme.token, "map");
    await shown(page, "map");
    // Two roles: each with one source and two numbers.
    await page.waitForFunction(() => document.querySelectorAll(".map path").length === 6);
    assert.match(await page.locator(".map li", { hasText: "xxxx" }).textContent(), /draft.*problem/);
    const row = page.locator("tbody tr", { hasText: "Returns" });
    assert.match(await row.textContent(), /Sales.*Returns.*\+551130000000, \+551130000001/);
    await page.fill("input[type=search]", "return");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll(".map path").length === 3);
    assert.match(page.url(), /#search=return$/);
  }));

  test("callbacks of a period and of the last minute are counted", looking({}, async (page) => {
    await signIn(page, acme.token, "statistics");
    await shown(page, "statistics");
    assert.match(await page.locator("table.bars tr", { hasText: "Sales" }).textContent(), /[1-9]/);
    await page.waitForSelector(".live.live");
    await acme.route("+5511987654321", "+551130000000", "counted");
    await page.waitForFunction(() => [...document.querySelectorAll("table.small tr")].some((row) => /^Callback[1-9]/.test(row.textContent)));
    assert.match(await page.locator("table", { hasText: "Callbacks by callback agent" }).locator("tr", { hasText: "Returns" }).textContent(), /Returns[1-9]/);
    await visit(page, "statistics", "#start=2020-01-01&end=2020-01-31");
    await page.waitForSelector("text=No call came back");
  }));

  test("the time to reply is drawn while calls come over SIP", looking({}, async (page) => {
    await signIn(page, acme.token, "statistics");
    await page.waitForSelector("text=No SIP replies");
    const stop = callBySip(server.sip);
    try {
      await page.waitForSelector("polyline.half[points*=',']");
      assert.match(await page.locator("dl", { hasText: "Half of the replies" }).textContent(), /[0-9] µs/);
    } finally {
      stop();
    }
  }));
});

describe("audit", () => {
  const rows = (page) => page.locator("table.audit tbody tr");

  test("who changed a role is found from its agent, shown as a difference, and undone", looking({}, async (page) => {
    const { api } = server;
    const agent = await api(acme.token, "POST", "/agents", { name: "<b>Audited</b>", label: "audited", direction: "inbound" });
    await api(acme.token, "POST", `/agents/${agent.id}/callback`, { source_agent_ids: [acme.sales.id], callback_trigger_statuses: ["completed"] });
    await api(acme.token, "PUT", `/agents/${agent.id}/callback`, { source_agent_ids: [acme.sales.id, acme.turned.id], callback_trigger_statuses: ["busy"], recency_window_seconds: 86400 });
    await signIn(page, acme.token, "manage");
    await visit(page, "manage", `#section=agents&id=${agent.id}`);
    await page.click("a:has-text('Its changes')");
    await shown(page, "audit");
    assert.equal(page.url().split("#")[1], `object=${agent.id}`);
    const newest = rows(page).first();
    assert.match(await newest.textContent(), /console.*by API.*role set.*Callback role.*<b>Audited<\/b>/);
    await page.waitForSelector("table.audit ins:has-text('adminis')");
    const differences = async (kind) => (await newest.locator(kind).allTextContents()).map((text) => text.replace(/^(before|after): /, "")).sort();
    assert.deepEqual(await differences("del"), ["completed"]);
    assert.deepEqual((await differences("ins")).map((text) => (text.startsWith("\\u202e") ? "turned" : text)).sort(), ["1 day", "busy", "turned"]);
    await newest.locator("button").click();
    await page.locator("dialog[open] button.danger").click();
    await page.waitForSelector(".done:has-text('was undone')");
    await page.waitForFunction(() => document.querySelectorAll("table.audit tbody tr").length === 4);
    assert.deepEqual(await differences("ins"), ["completed"]);
    const role = (await api(acme.token, "GET", "/callback-agents")).find(({ id }) => id === agent.id);
    assert.deepEqual(role.callback_config.callback_trigger_statuses, ["completed"]);
    // The change that was undone is not the latest any more.
    await rows(page).nth(1).locator("button").click();
    await page.locator("dialog[open] button.danger").click();
    await page.waitForSelector("[role=alert]:has-text('changed since')");
    await page.selectOption("#language", "pt-BR");
    await page.waitForFunction(() => document.documentElement.lang === "pt-BR");
    assert.match(await newest.textContent(), /no console.*papel definido.*Papel de retorno/);
  }));

  test("changes are filtered by kind, by who made them and by time, and the link keeps the filter", looking({}, async (page) => {
    await signIn(page, acme.token, "audit");
    await shown(page, "audit");
    const all = await rows(page).count();
    await page.selectOption("select[name=type]", { label: "Number" });
    await page.click("button.primary");
    await page.waitForFunction((all) => document.querySelector("main[aria-busy=false]") && document.querySelectorAll("table.audit tbody tr").length < all, all);
    assert.match(page.url(), /#type=number$/);
    for (const text of await rows(page).allTextContents()) assert.match(text, /Number/);
    await page.selectOption("select[name=actor]", { label: "console" });
    await page.click("button.primary");
    await page.waitForFunction((id) => location.hash.includes(`actor=${id}`), acme.tokenId);
    await shown(page, "audit");
    assert.ok(await rows(page).count() > 0);
    await visit(page, "audit", "#actor=administrator&type=token");
    assert.match(await rows(page).first().textContent(), /Administrator.*(created|ended).*Token/);
    // Ending a token is the administrator's, and so is taking that back.
    assert.equal(await rows(page).first().locator("button").count(), 0);
    await visit(page, "audit", `#until=${new Date(0).toISOString()}`);
    await page.waitForSelector(".empty");
  }));

  test("the administrator sees the changes of all environments without choosing one", looking({}, async (page) => {
    const other = await server.api(administrator, "POST", "/environments", { name: "Elsewhere" });
    await signIn(page, administrator, "audit");
    await shown(page, "audit");
    assert.match(await page.textContent("main"), /all environments/);
    const made = rows(page).filter({ hasText: "Elsewhere" });
    await made.locator("button").click();
    await page.locator("dialog[open] button.danger").click();
    await page.waitForSelector(".done");
    const left = await server.api(administrator, "GET", "/environments");
    assert.ok(!left.some(({ id }) => id === other.id));
  }));
});

describe("manage", () => {
  test("outbound calls are imported from CSV, and lines that are rejected are named", looking({}, async (page) => {
    await signIn(page, acme.token, "manage");
    await visit(page, "manage", "#section=import");
    const lines = ["Agent;To;From;Status;Sid", ...Array.from({ length: 2500 }, (_, number) => `Sales;+55118${String(number).padStart(8, "0")};+551130000000;completed;imported-${number}`), `"${hostile.markup.replaceAll('"', '""')}";+5511877777777;;completed;imported-markup`, "Nobody;+5511866666666;;completed;x"];
    await page.setInputFiles("input[type=file]", { name: "calls.csv", mimeType: "text/csv", buffer: Buffer.from(lines.join("\r\n")) });
    await page.click("button.primary:has-text('Import')");
    await page.waitForSelector("text=2,501 accepted, 1 rejected");
    assert.match(await page.textContent("tbody tr"), /^2503/);
    await visit(page, "contact", "#number=%2B5511877777777");
    await page.waitForSelector("td:has-text('imported-markup')");
  }));

  test("an agent is made, published, given a role, and deleted", looking({}, async (page) => {
    await signIn(page, acme.token, "manage");
    await page.click("text=New agent");
    await page.fill("input[name=name]", hostile.markup + " 2");
    await page.selectOption("select[name=direction]", "inbound");
    await page.locator("label", { hasText: "+551130000001" }).locator("input").check();
    await page.fill("textarea[name=targets]", "sip:desk@pbx.example.com 10 5");
    await page.click("button:has-text('Save')");
    await page.waitForSelector("h2:has-text('onerror')");
    await page.click("button:has-text('Publish')");
    await page.waitForSelector(".tag.published");
    // The server says what is wrong before anything is changed.
    const role = page.locator("form.edit", { hasText: "Only calls with these statuses" });
    await role.locator("button.primary").click();
    await page.waitForSelector("form.edit [role=alert]");
    await role.locator("label", { hasText: "Sales" }).locator("input").check();
    await role.locator("input[name=days]").fill("7");
    await role.locator("button.primary").click();
    await page.waitForSelector("button:has-text('Remove callback role')");
    await page.click("nav[aria-label='What to manage'] >> text=Callback roles");
    await page.waitForSelector("td:has-text('7 days')");
    await page.click("a:has-text('onerror=') >> nth=-1");
    await page.click("button:has-text('Remove callback role')");
    await page.click("dialog[open] button.danger");
    await page.waitForSelector("button:has-text('Remove callback role')", { state: "detached" });
    await page.click("button:has-text('Unpublish')");
    await page.waitForSelector("h2 .tag.draft");
    await page.click("button:has-text('Delete agent')");
    await page.click("dialog[open] button.danger");
    await page.waitForSelector("input[name=search]");
    await page.fill("input[name=search]", "onerror");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  }));

  test("a number is added and refused twice with words", looking({}, async (page) => {
    await signIn(page, acme.token, "manage");
    await visit(page, "manage", "#section=numbers");
    for (const expected of ["h2:has-text('+551130009999')", "[role=alert]:has-text('exists already')"]) {
      await visit(page, "manage", "#section=numbers");
      await page.fill("input[name=number]", "(11) 3000-9999");
      await page.click("button:has-text('Add number')");
      await page.waitForSelector(expected);
    }
    await visit(page, "manage", "#section=numbers&search=9999");
    await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  }));

  test("the administrator makes an environment and a token, shown once", looking({}, async (page) => {
    await signIn(page, administrator, "manage");
    await visit(page, "manage", "#section=environments&id=new");
    await page.fill("input[name=name]", hostile.turned);
    await page.fill("input[name=country]", "us");
    await page.click("button:has-text('Save')");
    await page.fill("input[name=name]", "pbx");
    await page.click("button:has-text('New token')");
    const secret = await page.textContent("code.secret");
    assert.match(secret, /^talq_[a-z0-9]{48}$/);
    await page.reload();
    await shown(page, "manage");
    assert.equal(await page.locator("code.secret").count(), 0);
    const made = await server.api(secret, "GET", "/agents");
    assert.deepEqual(made, []);
    // What turns text around is shown as an escape.
    await visit(page, "manage", "#section=environments");
    await page.waitForSelector("td:has-text('\\\\u202eadminis\\\\u200frator\\\\u202c')");
  }));
});

describe("every view", () => {
  for (const [locale, lang] of [["en-US", "en"], ["pt-BR", "pt-BR"]]) {
    for (const [width, scheme] of [[360, "dark"], [360, "light"], [1280, "light"], [1280, "dark"]]) {
      test(`is accessible and fits: ${lang}, ${width} px, ${scheme}`, looking({ width, locale, scheme }, async (page) => {
        const signedOut = page;
        await signedOut.goto(server.url + "/console/find");
        await page.waitForSelector("#sign-in");
        assert.deepEqual(await accessibility(page), []);
        await signIn(page, administrator);
        await page.selectOption("#environment", { label: "Acme" });
        await shown(page, "find");
        assert.equal(await page.getAttribute("html", "lang"), lang);
        assert.equal(await page.getAttribute("html", "data-theme"), scheme);
        for (const [view, hashes] of Object.entries(views)) {
          for (const hash of hashes) {
            await visit(page, view, resolved(hash));
            const where = `${view} ${hash}`;
            assert.deepEqual(await accessibility(page), [], where);
            assert.equal(await page.locator("h1").count(), 1, where);
            assert.equal(await page.locator("nav.views a").count(), Object.keys(views).length, where);
            assert.equal(await page.locator("nav.views a[aria-current=page]").count(), 1, where);
            const [inner, outer] = await page.evaluate(() => [document.documentElement.scrollWidth, document.documentElement.clientWidth]);
            assert.ok(inner <= outer, `${where}: ${inner} > ${outer}`);
          }
        }
      }));
    }
  }

  test("is reached by keyboard alone", looking({}, async (page) => {
    await page.goto(server.url + "/console/");
    await page.waitForSelector("input[name=token]:focus");
    await page.keyboard.type(acme.token);
    await page.keyboard.press("Enter");
    await shown(page, "find");
    await page.waitForSelector("h1:focus");
    await page.reload();
    await shown(page, "find");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.className), "skip");
    const tabTo = async (selector) => {
      for (let presses = 0; presses < 60; presses += 1) {
        if (await page.evaluate((selector) => document.activeElement.matches(selector), selector)) return;
        await page.keyboard.press("Tab");
      }
      assert.fail(`no way to ${selector}`);
    };
    for (const view of ["problems", "manage", "contact", "explain", "find"]) {
      await page.evaluate(() => document.querySelector(".skip").focus());
      await tabTo(`nav.views a[href="/console/${view}"]`);
      await page.keyboard.press("Enter");
      await shown(page, view);
      await page.waitForSelector("h1:focus");
    }
    await page.evaluate(() => document.querySelector(".skip").focus());
    await tabTo("input[type=search]");
    await page.keyboard.type("in-2@203");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelectorAll("table.decisions tbody tr").length === 1);
    await page.evaluate(() => document.querySelector(".skip").focus());
    await tabTo("a.open");
    await page.keyboard.press("Enter");
    await shown(page, "explain");
    assert.match(await page.textContent("h1"), /Why did this call go there/);
  }));

  test("keeps its theme when one is chosen", looking({ scheme: "light" }, async (page) => {
    await signIn(page, acme.token);
    await page.selectOption("#theme", "dark");
    assert.equal(await page.getAttribute("html", "data-theme"), "dark");
    await page.reload();
    await shown(page, "find");
    assert.equal(await page.getAttribute("html", "data-theme"), "dark");
  }));

  test("both languages together weigh at most 60,000 bytes", looking({}, async (page) => {
    const client = await page.context().newCDPSession(page);
    await client.send("Network.enable");
    const urls = new Map();
    const sizes = new Map();
    client.on("Network.responseReceived", ({ requestId, response }) => urls.set(requestId, response.url));
    client.on("Network.loadingFinished", ({ requestId, encodedDataLength }) => {
      const url = urls.get(requestId);
      // A file that is kept by the browser is not sent again.
      const name = url?.replace(/\/console\/\w+(#.*)?$/, "/console/");
      if (url?.includes("/console/")) sizes.set(name, Math.max(encodedDataLength, sizes.get(name) ?? 0));
    });
    await signIn(page, administrator);
    await page.selectOption("#environment", { label: "Acme" });
    await visit(page, "find");
    const paint = await page.evaluate(() => performance.getEntriesByName("first-contentful-paint")[0]?.startTime);
    for (const view of Object.keys(views)) await visit(page, view);
    await page.selectOption("#language", "pt-BR");
    await page.waitForFunction(() => document.documentElement.lang === "pt-BR");
    const sum = [...sizes.values()].reduce((left, right) => left + right, 0);
    console.log(`${sizes.size} files, ${sum} bytes with headers, first contentful paint after ${Math.round(paint)} ms`);
    assert.ok(sizes.size > 15, String(sizes.size));
    assert.ok(sum <= 60_000 + 400 * sizes.size, String(sum));
  }));
});

test("screenshots", { skip: !process.env.SCREENSHOTS && "SCREENSHOTS names no folder" }, async () => {
  const folder = process.env.SCREENSHOTS;
  mkdirSync(folder, { recursive: true });
  const shop = await startServer();
  let stop = () => {};
  try {
    const { returns } = await fillForPictures(shop);
    for (const [width, suffix] of [[1280, ""], [360, "-narrow"]]) {
      const page = await openPage(browser, shop, { width });
      await signIn(page, administrator);
      await page.selectOption("#environment", { label: "Acme" });
      for (const [view, hash] of [["find", ""], ["explain", "#call_id=in-1%40203.0.113.7"], ["problems", ""], ["map", ""], ["manage", `#section=agents&id=${returns.id}`], ["contact", "#number=%2B5511987654321"], ["statistics", ""], ["audit", ""], ["node", ""]]) {
        if (view === "statistics") stop = callBySip(shop.sip);
        await visit(page, view, hash);
        if (view === "statistics") await page.waitForSelector("polyline.half[points*=' ']").then(stop);
        writeFileSync(join(folder, `console-${view}${suffix}.png`), withPalette(await page.screenshot()));
      }
      await page.context().close();
    }
  } finally {
    stop();
    await shop.stop();
  }
});
