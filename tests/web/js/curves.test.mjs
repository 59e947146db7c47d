import assert from "node:assert/strict";
import test from "node:test";
import { curvesOf, points } from "../static/curves.js";

const times = { first_seconds: 0.25, step_seconds: 0.5 };

test("gates and curves of any name are drawn, in their order", () => {
  const result = { gates: { ...times, audio: [1, 0], visual: [0, 1] }, curves: { ...times, "how sure": [0.5], empty: [] } };
  assert.deepEqual(
    curvesOf(result).map(({ id, name, first, step, values }) => [id, name, first, step, values.length]),
    [
      ["gate-audio", "audio gate", 0.25, 0.5, 2],
      ["gate-visual", "visual gate", 0.25, 0.5, 2],
      ["curve-0", "how sure", 0.25, 0.5, 1],
    ],
  );
});

test("a model without any has none", () => {
  for (const result of [{}, { gates: null, curves: null }, { gates: { ...times, audio: [], visual: [] } }]) assert.deepEqual(curvesOf(result), []);
});

const curve = { first: 0, step: 1, values: Array.from({ length: 1000 }, (_, n) => (n % 97 === 5 ? 1 : n / 2000)) };

test("few points are given as they are", () => {
  const found = points(curve, 10, 12, 1000);
  assert.deepEqual(found, [9, 10, 11, 12, 13].map((t) => [t, curve.values[t]]));
});

test("no peak is lost where many steps become one", () => {
  for (const most of [7, 30, 300]) {
    const found = points(curve, 100, 900, most);
    assert.ok(found.length <= 2 * most + 2);
    const peaks = curve.values.slice(99, 902).filter((value) => value === 1).length;
    if (most === 300) assert.equal(found.filter(([, value]) => value === 1).length, peaks);
    assert.equal(Math.max(...found.map(([, value]) => value)), 1);
  }
});

test("nothing is drawn beyond the curve", () => {
  assert.deepEqual(points(curve, 2000, 3000, 10), []);
  const [first] = points(curve, 0, 1, 10);
  assert.deepEqual(first, [0, 0]);
});
