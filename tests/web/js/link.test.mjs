import assert from "node:assert/strict";
import test from "node:test";
import { read, write } from "../static/link.js";

function follow(hash) {
  globalThis.location = { hash };
  globalThis.history = { replaceState: (state, title, address) => (globalThis.location = { hash: address }) };
  return read();
}

test("what is shown is written, and read again", () => {
  follow("");
  const shown = { job: "abc", time: 1.5, from: 0, to: 12.25, threshold: 0.4, hidden: ["bark, loud", "a&b=c"] };
  write({ ...shown, hidden: new Set(shown.hidden) });
  assert.deepEqual(read(), shown);
});

test("an address that says nothing, or nonsense, chooses nothing", () => {
  const nothing = { job: null, time: null, from: null, to: null, threshold: null, hidden: [] };
  for (const hash of ["", "#", "#t=&from=x&to=NaN&score=Infinity"]) assert.deepEqual(follow(hash), nothing);
});
