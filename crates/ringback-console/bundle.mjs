#!/usr/bin/env node
// Writes dist/ and src/files.rs from web/ and vendor/; needs node alone.
//   bundle.mjs           writes them
//   bundle.mjs --check   tells whether what is there is what would be written (exit code 1: it is not)
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from "node:zlib";

const here = dirname(fileURLToPath(import.meta.url));
const bare = {
  preact: "vendor/preact.js",
  "preact/hooks": "vendor/preact-hooks.js",
  "@preact/signals-core": "vendor/signals-core.js",
  "@preact/signals": "vendor/signals.js",
  htm: "vendor/htm.js",
};
const types = { js: "text/javascript; charset=utf-8", css: "text/css; charset=utf-8", svg: "image/svg+xml" };

/** What has been named so far: path of the source → name of the file. */
const named = new Map();
/** Name of the file → content. */
const files = new Map();

/** Names a source after its content, and all that it imports before it. */
function add(path) {
  if (named.has(path)) return named.get(path);
  const [, stem, extension] = /([^/]+)\.(\w+)$/.exec(path);
  let text = readFileSync(join(here, path), "utf8");
  if (extension === "js") {
    named.set(path, null);
    text = text.replace(/\/\/# sourceMappingURL=.*/g, "").trimEnd() + "\n";
    // Comments on lines of their own are for who reads the source.
    if (path.startsWith("web/")) text = text.replace(/^\s*\/\/.*\n/gm, "").replace(/^\s+/gm, "");
    text = text.replace(/(\bfrom\s*|\bimport\s*\(?\s*)(["'])([^"'\n]+)\2/g, (all, before, quote, from) => {
      const target = bare[from] ?? (from.startsWith("./") ? join(dirname(path), from) : undefined);
      if (!target) return all;
      const name = add(target);
      if (!name) throw new Error(`${path} and ${target} import each other`);
      return `${before}${quote}./${name}${quote}`;
    });
  } else if (extension === "css") {
    text = text.replace(/\/\*[^]*?\*\//g, "").replace(/^\s+/gm, "");
  }
  const hash = createHash("sha256").update(text).digest("hex").slice(0, 10);
  const name = `${stem}.${hash}.${extension}`;
  named.set(path, name);
  files.set(name, { text, type: types[extension] });
  return name;
}

/** Everything that a module needs before it runs. */
function needed(name, found = new Set()) {
  if (!found.has(name)) {
    found.add(name);
    for (const [, other] of files.get(name).text.matchAll(/\bfrom\s*["']\.\/([^"']+)["']/g)) needed(other, found);
  }
  return found;
}

const main = add("web/app.js");
let page = readFileSync(join(here, "web/index.html"), "utf8");
page = page.replace(/"(\w+\.(?:css|js|svg))"/g, (all, path) => `"/console/files/${add("web/" + path)}"`);
const preloads = [...needed(main)].filter((name) => name !== main);
page = page.replace("<!-- preloads -->", preloads.map((name) => `<link rel="modulepreload" href="/console/files/${name}">`).join("\n"));

const brotli = (bytes) => brotliCompressSync(bytes, { params: {
  [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_LGWIN]: 22, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length,
} });
const entry = (name, served, type, text) => {
  const tag = createHash("sha256").update(text).digest("hex").slice(0, 20);
  return `File {
    name: "${served}",
    content_type: "${type}",
    etag: "\\"${tag}\\"",
    plain: include_bytes!("../dist/${name}"),
    gzip: include_bytes!("../dist/${name}.gz"),
    brotli: include_bytes!("../dist/${name}.br"),
}`;
};
const all = [...files].sort(([a], [b]) => (a < b ? -1 : 1));
const rust = `//! The files of the console: written by \`bundle.mjs\`.

use crate::File;

/// The page.
pub(crate) const PAGE: File = ${entry("index.html", "", "text/html; charset=utf-8", page)};

/// The files that it loads.
pub(crate) const FILES: [File; ${all.length}] = [
${all.map(([name, { type, text }]) => entry(name, name, type, text).replace(/^/gm, "    ") + ",").join("\n")}
];
`;

const dist = join(here, "dist");
const source = join(here, "src/files.rs");
all.push(["index.html", { text: page }]);
if (process.argv[2] === "--check") {
  const wrong = [];
  const read = (path) => (existsSync(path) ? readFileSync(path) : Buffer.alloc(0));
  const unpack = (how, bytes) => { try { return how(bytes); } catch { return Buffer.alloc(0); } };
  // Compressors of other versions may write other bytes: what they unpack to counts.
  for (const [name, { text }] of all) {
    const path = join(dist, name);
    const right = [read(path), unpack(gunzipSync, read(path + ".gz")), unpack(brotliDecompressSync, read(path + ".br"))];
    if (!right.every((bytes) => bytes.toString() === text)) wrong.push(name);
  }
  const known = new Set(all.flatMap(([name]) => [name, name + ".gz", name + ".br"]));
  wrong.push(...readdirSync(dist).filter((name) => !known.has(name)));
  if (read(source).toString() !== rust) wrong.push("src/files.rs");
  if (wrong.length) {
    console.error(`not what crates/ringback-console/bundle.mjs writes; run it: ${wrong.join(" ")}`);
    process.exit(1);
  }
} else {
  rmSync(dist, { recursive: true, force: true });
  mkdirSync(dist);
  let sum = 0;
  for (const [name, { text }] of all) {
    const bytes = Buffer.from(text);
    const small = brotli(bytes);
    sum += small.length;
    writeFileSync(join(dist, name), bytes);
    writeFileSync(join(dist, name + ".br"), small);
    writeFileSync(join(dist, name + ".gz"), gzipSync(bytes, { level: 9 }));
    console.log(String(bytes.length).padStart(7), String(small.length).padStart(6), name);
  }
  writeFileSync(source, rust);
  console.log(`${sum} bytes compressed by brotli`);
}
