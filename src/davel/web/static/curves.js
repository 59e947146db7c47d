// Curves over time, as the JSON of a result has them: `gates`, and `curves` of any name. Values are from 0 to 1.

const TIMES = ["first_seconds", "step_seconds"];

// [{ id, name, first, step, values }], times in seconds.
export function curvesOf({ gates, curves }) {
  const named = (group, id, name) =>
    Object.entries(group ?? {})
      .filter(([key, values]) => !TIMES.includes(key) && values?.length)
      .map(([key, values], n) => ({ id: id(key, n), name: name(key), first: group.first_seconds, step: group.step_seconds, values }));
  return [
    ...named(gates, (key) => `gate-${key}`, (key) => `${key} gate`),
    ...named(curves, (_, n) => `curve-${n}`, (key) => key),
  ];
}

// [time, value] of a curve between two times, and of one step more on both sides: at most about `most`, none of whose
// peaks is lost.
export function points({ first, step, values }, from, to, most) {
  const begin = Math.max(Math.floor((from - first) / step) - 1, 0);
  const end = Math.min(Math.ceil((to - first) / step) + 1, values.length - 1);
  const stride = Math.max(Math.floor((end - begin) / most), 1);
  const found = [];
  for (let n = begin; n <= end; n += stride) {
    found.push([first + n * step, Math.max(...values.slice(n, Math.min(n + stride, end + 1)))]);
  }
  return found;
}
