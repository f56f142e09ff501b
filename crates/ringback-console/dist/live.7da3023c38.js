import { ended, request } from "./state.098059260a.js";
export function follow({ wanted, show, state, missed = () => {} }) {
let stop;
let last;
let stopped = false;
let before = false;
let latest = [];
let count = 0;
let since = performance.now();
const timer = setInterval(() => {
const now = performance.now();
if (count || now - since > 1000) {
show(latest.map((text) => JSON.parse(text)), (count * 1000) / (now - since));
latest = [];
count = 0;
since = now;
}
}, 250);
function take(block) {
const data = block.indexOf("\ndata: ");
if (data < 0) return;
const id = /^id: (.*)$/m.exec(block);
if (id) last = id[1];
const text = block.slice(data + 7);
count += 1;
if (!wanted(text)) return;
latest.push(text);
if (latest.length > 2 * KEPT) latest = latest.slice(-KEPT);
}
async function run() {
while (!stopped) {
stop = new AbortController();
try {
const headers = last ? { "last-event-id": last } : {};
const response = await request("/decisions/stream", { headers, signal: stop.signal });
if (response.status === 401) return ended();
if (!response.ok) throw new Error();
state("live");
if (before && !last) missed();
before = true;
const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
let rest = "";
for (;;) {
const { value, done } = await reader.read();
if (done) break;
const blocks = (rest + value).split("\n\n");
rest = blocks.pop();
blocks.forEach(take);
}
} catch {
if (stopped) return undefined;
}
if (document.hidden) {
await new Promise((resume) => addEventListener("visibilitychange", resume, { once: true }));
} else {
state("waiting");
await new Promise((resume) => setTimeout(resume, 2000));
}
}
return undefined;
}
const seen = () => { if (document.hidden) stop?.abort(); };
addEventListener("visibilitychange", seen);
run();
return () => {
stopped = true;
clearInterval(timer);
removeEventListener("visibilitychange", seen);
stop?.abort();
};
}
const KEPT = 200;
