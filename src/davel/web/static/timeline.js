// Lanes of events, the sound and the gates on one axis of time, of which a part is shown.

import * as api from "./api.js";
import { clock, element } from "./text.js";

const $ = (id) => document.getElementById(id);
const MOST_BLOCKS = 1500;
const LEAST_SPAN = 0.5; // seconds
const TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const MOST_BINS = 4096;

export class Timeline {
  // `on` has: seek(t), pick(id, play), resize(id, changes), view().
  constructor(on) {
    this.on = on;
    this.duration = 1;
    this.from = 0;
    this.to = 1;
    this.lanes = [];
    this.picked = null;
    this.peaks = null;
    this.gates = null;
    this.dragging = null;
    const timeline = $("timeline");
    timeline.addEventListener("wheel", (e) => this.#wheel(e), { passive: false });
    for (const id of ["ruler", "waveform", "gate-audio", "gate-visual"]) {
      $(id).addEventListener("pointerdown", (e) => this.#scrub(e));
    }
    $("lanes").addEventListener("pointerdown", (e) => {
      if (e.target.classList.contains("track")) this.#scrub(e);
    });
    $("pan").addEventListener("input", (e) => this.show(Number(e.target.value), Number(e.target.value) + this.to - this.from));
    new ResizeObserver(() => this.draw()).observe(timeline);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.draw());
  }

  // A video's own: its length, its gates ({ first_seconds, step_seconds, audio, visual }).
  load(job, duration, gates) {
    Object.assign(this, { job, duration, gates, peaks: null, from: 0, to: duration });
    for (const row of document.querySelectorAll(".row.gate")) row.hidden = !gates?.audio;
  }

  // [{ label, events, truth }]; what is `picked` has handles.
  setLanes(lanes, picked) {
    this.lanes = lanes;
    this.picked = picked;
    this.#drawLanes();
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
    this.#drawRuler();
    this.#drawWaveform();
    for (const modality of ["audio", "visual"]) this.#drawGate(modality);
    this.#drawLanes();
    this.#drawCursor();
    this.#fetchPeaks();
  }

  #timeAt(clientX) {
    const box = $("ruler").getBoundingClientRect();
    const part = Math.min(Math.max((clientX - box.left) / box.width, 0), 1);
    return this.from + part * (this.to - this.from);
  }

  #wheel(e) {
    if (e.ctrlKey || e.metaKey) {
      e.preventDefault();
      this.zoom(Math.exp(e.deltaY * 0.003), this.#timeAt(e.clientX));
    } else if (Math.abs(e.deltaX) > Math.abs(e.deltaY) || e.shiftKey) {
      e.preventDefault();
      const by = ((e.deltaX || e.deltaY) / $("ruler").clientWidth) * (this.to - this.from);
      this.show(this.from + by, this.to + by);
    }
  }

  #scrub(e) {
    if (e.button !== 0) return;
    const target = e.currentTarget.classList.contains("track") ? e.currentTarget : e.target;
    target.setPointerCapture(e.pointerId);
    this.on.seek(this.#timeAt(e.clientX));
    const move = (m) => this.on.seek(this.#timeAt(m.clientX));
    target.addEventListener("pointermove", move);
    for (const end of ["pointerup", "pointercancel"]) {
      target.addEventListener(end, () => target.removeEventListener("pointermove", move), { once: true });
    }
  }

  #canvas(id) {
    const canvas = $(id);
    const scale = devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    const context = canvas.getContext("2d");
    context.scale(scale, scale);
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(`--${name}`).trim();
    return { context, width, height, colour, x: (t) => ((t - this.from) / (this.to - this.from)) * width };
  }

  #drawRuler() {
    const { context, width, height, colour, x } = this.#canvas("ruler");
    const least = ((this.to - this.from) / width) * 70;
    const step = TICKS.find((tick) => tick >= least) ?? Math.ceil(least / 3600) * 3600;
    context.fillStyle = context.strokeStyle = colour("quiet");
    context.font = "11px system-ui, sans-serif";
    for (let n = Math.ceil(this.from / step); n * step <= this.to; n++) {
      const at = Math.round(x(n * step)) + 0.5;
      context.beginPath();
      context.moveTo(at, height - 5);
      context.lineTo(at, height);
      context.stroke();
      const text = clock(n * step, step < 1 ? 1 : 0);
      const half = context.measureText(text).width / 2;
      context.fillText(text, Math.min(Math.max(at - half, 0), width - 2 * half), 11);
    }
  }

  #drawWaveform() {
    const { context, width, height, colour, x } = this.#canvas("waveform");
    context.fillStyle = colour("sound");
    if (!this.peaks) return;
    const { from, to, bins } = this.peaks;
    const step = (to - from) / bins.length;
    bins.forEach(([low, high], n) => {
      const left = x(from + n * step);
      const right = x(from + (n + 1) * step);
      if (right < 0 || left > width) return;
      const top = (height / 2) * (1 - high / 127);
      const bottom = (height / 2) * (1 - low / 127);
      context.fillRect(left, top, Math.max(right - left, 0.75), Math.max(bottom - top, 0.75));
    });
  }

  #drawGate(modality) {
    if (!this.gates?.[modality]) return;
    const { context, width, height, colour, x } = this.#canvas(`gate-${modality}`);
    const { first_seconds: first, step_seconds: step } = this.gates;
    const values = this.gates[modality];
    const begin = Math.max(Math.floor((this.from - first) / step) - 1, 0);
    const end = Math.min(Math.ceil((this.to - first) / step) + 1, values.length - 1);
    const stride = Math.max(Math.floor((end - begin) / (2 * width)), 1);
    context.fillStyle = colour("gate");
    context.beginPath();
    context.moveTo(x(first + begin * step), height);
    for (let n = begin; n <= end; n += stride) {
      let value = values[n];
      for (let m = n + 1; m < Math.min(n + stride, end); m++) value = Math.max(value, values[m]);
      context.lineTo(x(first + n * step), height * (1 - value));
    }
    context.lineTo(x(first + end * step), height);
    context.fill();
  }

  #place(block, { start, end }) {
    const length = this.to - this.from;
    block.style.left = `${(100 * (Math.max(start, this.from) - this.from)) / length}%`;
    block.style.width = `${(100 * (Math.min(end, this.to) - Math.max(start, this.from))) / length}%`;
  }

  #drawLanes() {
    if (this.dragging) return;
    const inView = ({ start, end }) => end > this.from && start < this.to;
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
        if (event[edge] < this.from || event[edge] > this.to) continue;
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
      const time = Math.round(this.#timeAt(m.clientX) * 100) / 100;
      if (edge === "start") this.dragging.start = Math.min(time, event.end - 0.01);
      else this.dragging.end = Math.max(time, event.start + 0.01);
      this.#place(block, this.dragging);
      this.on.seek(this.dragging[edge]);
    };
    const finish = (keep) => {
      const { start, end } = this.dragging;
      this.dragging = null;
      if (keep) this.on.resize(event.id, { start, end });
      else this.#drawLanes();
    };
    handle.addEventListener("pointermove", move);
    handle.addEventListener("pointerup", () => finish(true), { once: true });
    handle.addEventListener("pointercancel", () => finish(false), { once: true });
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
        this.#drawWaveform();
      } catch { /* the sound is not drawn; the rest is */ }
    }, have ? 120 : 0);
  }
}
