// What is shown, as the part of the address behind #, so that a link brings it back.

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const number = (key) => {
    const value = given.get(key);
    return value === null || value === "" || !Number.isFinite(Number(value)) ? null : Number(value);
  };
  return {
    job: given.get("job"),
    time: number("t"),
    from: number("from"),
    to: number("to"),
    threshold: number("score"),
    hidden: given.getAll("hide"),
  };
}

export function write({ job, time, from, to, threshold, hidden }) {
  const parts = new URLSearchParams({ job, t: time.toFixed(2), from: from.toFixed(2), to: to.toFixed(2), score: threshold.toFixed(2) });
  for (const label of hidden) parts.append("hide", label);
  history.replaceState(null, "", `#${parts}`);
}
