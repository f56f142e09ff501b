// What can be told without a browser: the two languages, and the libraries.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

const crate = join(dirname(fileURLToPath(import.meta.url)), "../..");
const texts = async (name) => {
  const source = readFileSync(join(crate, "web", name), "utf8");
  return (await import(`data:text/javascript,${encodeURIComponent(source)}`)).default;
};

test("both languages have the same keys with the same placeholders, and no key is missing or unused", async () => {
  const [english, portuguese] = [await texts("en.js"), await texts("pt-BR.js")];
  assert.deepEqual(Object.keys(english), Object.keys(portuguese));
  const holes = (text) => (text.match(/\{\w+\}/g) ?? []).sort();
  const sources = readdirSync(join(crate, "web")).filter((name) => name.endsWith(".js") && !["en.js", "pt-BR.js"].includes(name)).map((name) => readFileSync(join(crate, "web", name), "utf8")).join("\n");
  for (const [key, text] of Object.entries(english)) {
    assert.deepEqual(holes(text), holes(portuguese[key]), key);
    assert.ok(text && portuguese[key], key);
  }
  for (const [, key] of sources.matchAll(/\bt\("([\w.]+)"/g)) assert.ok(key in english || key.endsWith("."), `untranslated: ${key}`);
});

test("libraries are those that the list names", () => {
  const list = readFileSync(join(crate, "vendor/README.md"), "utf8");
  const files = readdirSync(join(crate, "vendor")).filter((name) => name.endsWith(".js"));
  assert.ok(files.length >= 5);
  for (const file of files) {
    const sum = createHash("sha256").update(readFileSync(join(crate, "vendor", file))).digest("hex");
    assert.ok(list.split("\n").some((line) => line.startsWith(`| \`${file}\``) && line.includes(sum)), file);
  }
});
