import assert from "node:assert/strict";
import test from "node:test";
import { canBeCancelled, isActive, partDone, watch } from "../static/watch.js";

function answers(...states) {
  const left = states.map((state) => ({ state }));
  return async () => left.shift();
}

test("what is on its way is active until it is over", () => {
  assert.deepEqual(["uploading", "queued", "running", "done", "failed", "cancelled"].map((state) => isActive({ state })), [true, true, true, false, false, false]);
  assert.equal(isActive(null), false);
  assert.deepEqual(["uploading", "queued", "done"].map((state) => canBeCancelled({ state })), [false, true, false]);
  assert.equal(partDone({ state: "running", seconds: 3, duration: 4 }), 0.75);
  assert.equal(partDone({ state: "running", seconds: 5, duration: 4 }), 1);
  assert.equal(partDone({ state: "running", seconds: 5, duration: null }), null);
  assert.equal(partDone({ state: "queued", seconds: 0, duration: 4 }), null);
});

test("each answer is shown, and the last is given", async () => {
  const seen = [];
  const show = ({ state }) => seen.push(state);
  const ask = answers("queued", "running", "done", "never asked for");
  const over = await watch({ first: ask, ask, show, wanted: () => true, wait: 0 });
  assert.deepEqual(seen, ["queued", "running", "done"]);
  assert.equal(over.state, "done");
});

test("what is not wanted any more is not shown", async () => {
  const seen = [];
  const ask = answers("queued", "running", "done");
  const wanted = () => seen.length < 2;
  assert.equal(await watch({ first: ask, ask, show: (work) => seen.push(work.state), wanted, wait: 0 }), undefined);
  assert.deepEqual(seen, ["queued", "running"]);
});

test("the first answer may come of another question, and may be that there is nothing", async () => {
  const seen = [];
  const show = (work) => seen.push(work);
  assert.equal(await watch({ first: async () => null, ask: answers("queued"), show, wanted: () => true, wait: 0 }), null);
  assert.deepEqual(seen, [null]);
});

test("an error ends it", async () => {
  const fails = async () => { throw new Error("gone"); };
  await assert.rejects(watch({ first: fails, ask: fails, show: () => {}, wanted: () => true, wait: 0 }), /gone/);
});
