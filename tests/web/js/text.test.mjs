import assert from "node:assert/strict";
import test from "node:test";
import { bytes, clock, count, span } from "../static/text.js";

test("times are read on a clock", () => {
  const written = [[0, 1], [59.94, 1], [59.96, 1], [61.234, 2], [3599.99, 0], [3661.5, 1]].map(([t, digits]) => clock(t, digits));
  assert.deepEqual(written, ["0:00.0", "0:59.9", "1:00.0", "1:01.23", "1:00:00", "1:01:01.5"]);
});

test("sizes, spans and counts are short", () => {
  assert.deepEqual([999, 1_234_000, 4e9].map(bytes), ["0.999 kB", "1.23 MB", "4.00 GB"]);
  assert.deepEqual([0.2, 89, 90, 5400].map(span), ["1 s", "89 s", "2 min", "1.5 h"]);
  assert.deepEqual([0, 1, 2].map((n) => count(n, "event")), ["0 events", "1 event", "2 events"]);
});
