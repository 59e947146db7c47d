// Lanes of events, the sound and a model's curves on one axis of time, of which a part is shown.

import * as api from "./api.js";
import { drawCurve, drawRuler, drawWaveform } from "./canvas.js";
import { $, element } from "./dom.js";
import { Lanes } from "./lanes.js";
import { clock } from "./text.js";

const LEAST_SPAN = 0.5; // seconds
const MOST_BINS = 4096;

export class Timeline {
  // `on` has: seek(t), pick(id, play), resize(id, changes), view().
  constructor(on) {
    this.on = on;
    this.duration = 1;
    this.from = 0;
    this.to = 1;
    this.peaks = null;
    this.curves = [];
    this.lanes = new Lanes(this, on);
    const timeline = $("timeline");
    timeline.addEventListener("wheel", (e) => this.#wheel(e), { passive: false });
    timeline.addEventListener("pointerdown", (e) => {
      if (e.target.classList.contains("track")) this.#scrub(e);
    });
    $("pan").addEventListener("input", (e) => this.show(Number(e.target.value), Number(e.target.value) + this.to - this.from));
    new ResizeObserver(() => this.draw()).observe(timeline);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // A video's own: its length, and its curves as curvesOf gives them.
  load(job, duration, curves) {
    Object.assign(this, { job, duration, curves, peaks: null, from: 0, to: duration });
    $("curves").replaceChildren(
      ...curves.map(({ id, name }) =>
        element("div", { className: "row gate" }, element("span", { className: "name", textContent: name, title: name }), element("canvas", { id, className: "track" })),
      ),
    );
  }

  setLanes(lanes, picked) {
    this.lanes.set(lanes, picked);
  }

  show(from, to) {
    const length = Math.min(Math.max(to - from, Math.min(LEAST_SPAN, this.duration)), this.duration);
    this.from = Math.min(Math.max(from, 0), this.duration - length);
    this.to = this.from + length;
    this.draw();
    this.on.view();
  }

  zoom(factor, around) {
    const centre = around ?? (this.time >= this.from && this.time <= this.to ? this.time : (this.from + this.to) / 2);
    const length = Math.min(Math.max((this.to - this.from) * factor, LEAST_SPAN), this.duration);
    const before = (centre - this.from) / (this.to - this.from);
    this.show(centre - before * length, centre + (1 - before) * length);
  }

  // Brings a stretch of time into view, with some of what is around it.
  reveal(start, end) {
    if (start >= this.from && end <= this.to) return;
    const length = Math.max(this.to - this.from, (end - start) * 1.2);
    const centre = (start + end) / 2;
    this.show(centre - length / 2, centre + length / 2);
  }

  setTime(time, playing) {
    this.time = time;
    if (playing && (time > this.to || time < this.from)) this.show(time, time + this.to - this.from);
    this.#drawCursor();
  }

  draw() {
    if (!this.job || !$("ruler").clientWidth) return;
    const pan = $("pan");
    const length = this.to - this.from;
    pan.max = Math.max(this.duration - length, 0);
    pan.disabled = length >= this.duration;
    pan.value = this.from;
    pan.setAttribute("aria-valuetext", `${clock(this.from)} to ${clock(this.to)}`);
    drawRuler($("ruler"), this);
    drawWaveform($("waveform"), this, this.peaks);
    for (const curve of this.curves) drawCurve($(curve.id), this, curve);
    this.lanes.draw();
    this.#drawCursor();
    this.#fetchPeaks();
  }

  timeAt(clientX) {
    const box = $("ruler").getBoundingClientRect();
    const part = Math.min(Math.max((clientX - box.left) / box.width, 0), 1);
    return this.from + part * (this.to - this.from);
  }

  #wheel(e) {
    if (e.ctrlKey || e.metaKey) {
      e.preventDefault();
      this.zoom(Math.exp(e.deltaY * 0.003), this.timeAt(e.clientX));
    } else if (Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey) {
      e.preventDefault();
      const by = ((e.deltaX || e.deltaY) / $("ruler").clientWidth) * (this.to - this.from);
      this.show(this.from + by, this.to + by);
    }
  }

  #scrub(e) {
    if (e.button !== 0) return;
    const { target } = e;
    target.setPointerCapture(e.pointerId);
    this.on.seek(this.timeAt(e.clientX));
    const move = (m) => this.on.seek(this.timeAt(m.clientX));
    target.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) {
      target.addEventListener(end, () => target.removeEventListener("pointermove", move), { once: true });
    }
  }

  #drawCursor() {
    const cursor = $("cursor");
    const ruler = $("ruler");
    const part = (this.time - this.from) / (this.to - this.from);
    cursor.hidden = !(part >= 0 && part <= 1);
    cursor.style.left = `${ruler.offsetLeft + part * ruler.clientWidth}px`;
  }

  // What is shown and as much again on both sides, once nothing has moved for a moment.
  #fetchPeaks() {
    const width = $("ruler").clientWidth;
    const length = this.to - this.from;
    const have = this.peaks;
    const fine = have && (have.to - have.from) / have.bins.length <= (1.5 * length) / width;
    if (fine && have.from <= this.from && have.to >= this.to) return;
    clearTimeout(this.fetching);
    this.fetching = setTimeout(async () => {
      const job = this.job;
      const from = Math.max(this.from - length, 0);
      const to = Math.min(this.to + length, this.duration);
      const bins = Math.min(Math.ceil(((to - from) / length) * width), MOST_BINS);
      try {
        const found = await api.peaks(job, from, to, bins);
        if (job === this.job) this.peaks = { from, to, bins: found };
        drawWaveform($("waveform"), this, this.peaks);
      } catch { /* the sound is not drawn; the rest is */ }
    }, have ? 120 : 0);
  }
}
