// Many decisions and many agents: the page stays quick.
import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { after, before, test } from "node:test";
import { fill, openPage, shown, signIn, startBrowser, startServer, visit } from "./harness.mjs";

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

/** Sends INVITEs of a contact that calls back, 5,000 a second, until stopped; tells how many were answered. */
async function caller() {
  const socket = createSocket("udp4");
  let answered = 0;
  socket.on("message", (reply) => { if (reply.subarray(0, 11).toString() === "SIP/2.0 302") answered += 1; });
  await new Promise((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  const [host, to] = server.sip.split(":");
  let sent = 0;
  const started = performance.now();
  const timer = setInterval(() => {
    for (const due = (performance.now() - started) * 5; sent < due; sent += 1) {
      const from = `sip:+5511987654321@127.0.0.1:${port}`;
      socket.send([`INVITE sip:+551130000000@${server.sip} SIP/2.0`, `Via: SIP/2.0/UDP 127.0.0.1:${port};rport;branch=z9hG4bK-load-${sent}`, "Max-Forwards: 70",
        `From: <${from}>;tag=${sent}`, `To: <sip:+551130000000@${server.sip}>`, `Call-ID: load-${sent}`, "CSeq: 1 INVITE", `Contact: <${from}>`, "Content-Length: 0", "", ""].join("\r\n"), Number(to), host);
    }
  }, 5);
  return { count: () => answered, stop: () => { clearInterval(timer); socket.close(); } };
}

test("thousands of decisions a second are shown, and the page answers", async () => {
  const page = await openPage(browser, server);
  await signIn(page, acme.token);
  await shown(page, "find");
  await page.waitForSelector(".live.live");
  // The longest that the page did not answer, by its own clock.
  await page.evaluate(() => {
    window.longest = 0;
    new PerformanceObserver((list) => { for (const { duration } of list.getEntries()) window.longest = Math.max(window.longest, duration); }).observe({ entryTypes: ["longtask"] });
  });
  const calls = await caller();
  await page.waitForFunction(() => /\d{3}/.test(document.querySelector(".live .quiet")?.textContent.replace(/\D/g, "") ?? ""));
  await page.waitForFunction(() => document.querySelectorAll("tr.fresh").length === 200);
  const started = calls.count();
  const since = performance.now();
  for (const name of ["Problems", "Manage", "Find"]) {
    await page.click(`nav.views >> text=${name}`);
    await shown(page, name.toLowerCase());
  }
  await page.waitForFunction(() => document.querySelectorAll("tr.fresh").length === 200);
  const rate = ((calls.count() - started) * 1000) / (performance.now() - since);
  const most = await page.evaluate(() => document.querySelectorAll("tbody tr").length);
  calls.stop();
  assert.ok(most <= 400, String(most));
  console.log(`${Math.round(rate)} decisions a second; the page was busy for at most ${Math.round(await page.evaluate(() => window.longest))} ms at once`);
  await page.fill("input[type=search]", "in-1@203");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector("main[aria-busy=false]") && location.hash.startsWith("#call_id"));
  assert.deepEqual(page.trouble, []);
  await page.context().close();
});

test("of thousands of agents a page is shown", async () => {
  for (let start = 0; start < 3000; start += 50) {
    await Promise.all(Array.from({ length: 50 }, (_, number) => server.api(acme.token, "POST", "/agents", { name: `Agent ${start + number}`, label: "many", direction: "outbound" })));
  }
  const page = await openPage(browser, server);
  await signIn(page, acme.token, "manage");
  await visit(page, "manage", "#section=agents&page=60");
  await page.waitForSelector("text=Page 60 of 61");
  assert.equal(await page.locator("tbody tr").count(), 50);
  await page.fill("input[name=search]", "agent 2999");
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelectorAll("tbody tr").length === 1);
  await visit(page, "problems");
  assert.deepEqual(page.trouble, []);
  await page.context().close();
});
