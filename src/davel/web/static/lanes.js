// The lanes: a row for each class, a block for each event. The chosen one has handles that move its edges.

import { $, element } from "./dom.js";
import { clock } from "./text.js";

const MOST_BLOCKS = 1500;
const LEAST_SECONDS = 0.01; // of an event whose edges are moved

export class Lanes {
  // `axis` has: from, to, timeAt(x). `on` has: seek(t), pick(id, play), resize(id, changes).
  constructor(axis, on) {
    Object.assign(this, { axis, on, lanes: [], picked: null, dragging: null });
  }

  // [{ label, events, truth }]
  set(lanes, picked) {
    Object.assign(this, { lanes, picked });
    this.draw();
  }

  draw() {
    if (this.dragging) return;
    const inView = ({ start, end }) => end > this.axis.from && start < this.axis.to;
    let shown = this.lanes.flatMap(({ events }) => events.filter(inView));
    const all = shown.length;
    if (all > MOST_BLOCKS) shown = shown.sort((a, b) => b.score - a.score).slice(0, MOST_BLOCKS);
    const chosen = new Set(shown);
    $("hidden-events").textContent = all > MOST_BLOCKS ? `The strongest ${MOST_BLOCKS} of ${all} events are drawn: zoom in to see all.` : "";
    $("lanes").replaceChildren(
      ...this.lanes.map(({ label, events, truth }) => {
        const track = element("div", { className: "track" });
        for (const event of events.filter((e) => chosen.has(e))) track.append(this.#block(event));
        for (const event of (truth ?? []).filter(inView)) {
          const block = element("div", { className: "truth", title: `true: ${label}, ${clock(event.start, 2)} to ${clock(event.end, 2)}` });
          this.#place(block, event);
          track.append(block);
        }
        if (truth) track.classList.add("with-truth");
        const row = element("div", { className: "row lane" }, element("span", { className: "name", textContent: label, title: label }), track);
        row.dataset.label = label;
        return row;
      }),
    );
  }

  #place(block, { start, end }) {
    const { from, to } = this.axis;
    block.style.left = `${(100 * (Math.max(start, from) - from)) / (to - from)}%`;
    block.style.width = `${(100 * (Math.min(end, to) - Math.max(start, from))) / (to - from)}%`;
  }

  #block(event) {
    const text = `${event.label}, ${clock(event.start, 2)} to ${clock(event.end, 2)}, score ${event.score.toFixed(2)}`;
    const block = element("button", { type: "button", className: "event", title: text, tabIndex: -1 });
    block.setAttribute("aria-label", text);
    block.dataset.event = event.id;
    block.style.setProperty("--score", event.score);
    this.#place(block, event);
    block.addEventListener("click", (e) => {
      if (e.detail) block.blur(); // keys go on to mean what they mean on the page
      this.on.pick(event.id, true);
    });
    if (event.id === this.picked) {
      block.classList.add("picked");
      for (const edge of ["start", "end"]) {
        if (event[edge] < this.axis.from || event[edge] > this.axis.to) continue;
        const handle = element("span", { className: `handle ${edge}` });
        handle.addEventListener("pointerdown", (e) => this.#drag(e, handle, block, event, edge));
        handle.addEventListener("click", (e) => e.stopPropagation());
        block.append(handle);
      }
    }
    return block;
  }

  #drag(e, handle, block, event, edge) {
    if (e.button !== 0) return;
    e.preventDefault();
    e.stopPropagation();
    handle.setPointerCapture(e.pointerId);
    this.dragging = { ...event };
    const move = (m) => {
      const time = Math.round(this.axis.timeAt(m.clientX) * 100) / 100;
      if (edge === "start") this.dragging.start = Math.min(time, event.end - LEAST_SECONDS);
      else this.dragging.end = Math.max(time, event.start + LEAST_SECONDS);
      this.#place(block, this.dragging);
      this.on.seek(this.dragging[edge]);
    };
    const finish = (keep) => {
      const { start, end } = this.dragging;
      this.dragging = null;
      if (keep) this.on.resize(event.id, { start, end });
      else this.draw();
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", () => finish(true), { once: true });
    handle.addEventListener("pointercancel", () => finish(false), { once: true });
  }
}
