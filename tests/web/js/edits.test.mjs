import assert from "node:assert/strict";
import test from "node:test";
import { Edits } from "../static/edits.js";

const bell = { label: "bell", start: 1, end: 2, score: 0.5 };
const plain = (edits) => edits.events.map(({ id, ...event }) => event);

test("every step is undone and done again", () => {
  const edits = new Edits([bell]);
  const states = [edits.events];
  const id = edits.add({ ...bell, label: "rain" });
  states.push(edits.events);
  edits.change(id, { end: 3 });
  states.push(edits.events);
  edits.remove(edits.events[0].id);
  states.push(edits.events);
  for (const state of states.slice(0, -1).reverse()) {
    assert.ok(edits.undo());
    assert.equal(edits.events, state);
  }
  assert.equal(edits.undo(), false);
  for (const state of states.slice(1)) {
    assert.ok(edits.redo());
    assert.equal(edits.events, state);
  }
  assert.equal(edits.redo(), false);
});

test("what a person changes is sure, and what is not changed is no step", () => {
  const edits = new Edits([bell]);
  const [{ id }] = edits.events;
  edits.change(id, { start: 1 });
  assert.equal(edits.past.length, 0);
  edits.change(id, { start: 0 });
  assert.deepEqual(plain(edits), [{ ...bell, start: 0, score: 1 }]);
});

test("a new step forgets what was undone", () => {
  const edits = new Edits([bell]);
  edits.remove(edits.events[0].id);
  edits.undo();
  edits.add(bell);
  assert.equal(edits.redo(), false);
  assert.equal(edits.events.length, 2);
});

test("what is changed while the server answers is not saved", () => {
  const edits = new Edits([bell]);
  edits.add(bell);
  const sent = edits.events;
  edits.add(bell);
  edits.markSaved(sent);
  assert.ok(edits.changed);
  edits.undo();
  assert.ok(!edits.changed);
});

test("ids are of one event each, also after others are loaded", () => {
  const edits = new Edits([bell, bell]);
  const before = edits.events.map(({ id }) => id);
  edits.load([bell]);
  assert.ok(!before.includes(edits.events[0].id));
  assert.equal(edits.get(before[0]), undefined);
  assert.ok(!edits.changed);
});
