// What is seen of a video: the player and the axis of time in step, which events are shown, and which is chosen.

import { curvesOf } from "./curves.js";
import { $ } from "./dom.js";
import { Filter } from "./filter.js";
import * as link from "./link.js";
import { Screen } from "./screen.js";
import { drawTable } from "./table.js";
import { clock, count } from "./text.js";
import { Timeline } from "./timeline.js";

const LINK_MILLISECONDS = 200; // in which nothing moves, before the address follows

export class View {
  // `on` has: resize(id, changes), drawn().
  constructor(info, say, on) {
    Object.assign(this, { info, say, on, id: null, edits: null });
    this.player = $("video");
    this.screen = new Screen(this.player, say);
    this.filter = new Filter(() => this.draw());
    this.timeline = new Timeline({
      seek: (t) => this.seek(t),
      pick: (id, play) => this.pick(id, play),
      resize: on.resize,
      view: () => this.#afterMoving(),
    });
    $("threshold").min = info.least_score;
    this.#listen();
  }

  #listen() {
    const click = (id, action) => $(id).addEventListener("click", action);
    click("play", () => this.toggle());
    click("previous", () => this.step(-1));
    click("next", () => this.step(1));
    click("zoom-in", () => this.zoom(0.5));
    click("zoom-out", () => this.zoom(2));
    click("zoom-all", () => this.showAll());
    $("threshold").addEventListener("input", (e) => {
      this.threshold = Number(e.target.value);
      this.draw();
    });
    this.player.addEventListener("timeupdate", () => this.#tick());
    this.player.addEventListener("seeked", () => this.#tick());
    for (const kind of ["play", "pause"]) {
      this.player.addEventListener(kind, () => {
        $("play").textContent = this.player.paused ? "Play" : "Pause";
        this.#tick();
      });
    }
  }

  // `result` is the model's, `kept` what people saved, `truth` null where nobody knows it.
  open({ id, name, result, kept, truth, edits }) {
    const given = link.read();
    Object.assign(this, { id, edits, truth, picked: null, stopAt: null, duration: result.media.duration_seconds });
    this.threshold = given.threshold ?? (kept.corrected ? this.info.least_score : this.info.model.threshold);
    this.filter.hidden = new Set(given.hidden);
    this.screen.open(id, name, given.time ?? 0, result.coverage.audio);
    $("legend").textContent = `Blocks: what was found, the stronger the surer.${truth ? " Bars under them: the true events." : ""}`;
    this.timeline.load(id, this.duration, curvesOf(result));
    this.timeline.show(given.from ?? 0, given.to ?? this.duration);
    this.draw();
    this.#tick();
    const warnings = result.coverage.warnings ?? [];
    this.say([count(this.shown().length, "event"), ...(kept.corrected ? ["as they were saved"] : []), ...warnings].join("; "));
  }

  close() {
    this.id = null;
    this.edits = null;
    this.screen.close();
  }

  // Which events are shown.

  above() {
    return this.edits.events.filter((event) => event.score >= this.threshold);
  }

  shown() {
    return this.above().filter((event) => this.filter.shows(event.label));
  }

  #labels() {
    const used = new Set([...this.edits.events, ...(this.truth ?? [])].map((event) => event.label));
    return [...new Set([...this.info.model.labels.filter((label) => used.has(label)), ...used])];
  }

  #lanes(labels) {
    const of = (events, label) => events.filter((event) => event.label === label);
    const events = this.shown();
    return labels
      .filter((label) => this.filter.shows(label))
      .map((label) => ({ label, events: of(events, label), truth: this.truth && of(this.truth, label) }))
      .filter((lane) => lane.events.length || lane.truth?.length);
  }

  draw() {
    if (!this.edits) return;
    const labels = this.#labels();
    if (!this.shown().some((event) => event.id === this.picked)) this.picked = null;
    this.timeline.setLanes(this.#lanes(labels), this.picked);
    $("threshold").value = this.threshold;
    $("threshold-value").textContent = this.threshold.toFixed(2);
    this.filter.draw(labels);
    this.on.drawn();
    this.#drawTable();
    this.#writeLink();
  }

  #drawTable() {
    drawTable(this.shown(), this.timeline, this.picked, (id) => this.pick(id, true));
  }

  #writeLink() {
    clearTimeout(this.linking);
    this.linking = setTimeout(() => {
      if (!this.edits) return;
      const { from, to } = this.timeline;
      link.write({ job: this.id, time: this.time, from, to, threshold: this.threshold, hidden: this.filter.hidden });
    }, LINK_MILLISECONDS);
  }

  #afterMoving() {
    if (!this.edits) return;
    this.#drawTable();
    this.#writeLink();
  }

  // The axis of time.

  zoom(factor) {
    this.timeline.zoom(factor);
  }

  showAll() {
    this.timeline.show(0, this.duration);
  }

  reveal(start, end) {
    this.timeline.reveal(start, end);
  }

  // Playing.

  get time() {
    return this.player.currentTime || 0;
  }

  seek(time) {
    this.stopAt = null;
    this.player.currentTime = Math.min(Math.max(time, 0), this.duration);
    this.#tick();
  }

  #tick() {
    if (!this.edits) return;
    if (this.stopAt !== null && this.time >= this.stopAt) {
      this.stopAt = null;
      this.player.pause();
    }
    const playing = !this.player.paused;
    this.timeline.setTime(this.time, playing);
    const text = `${clock(this.time)} / ${clock(this.duration)}`;
    if ($("clock").textContent !== text) $("clock").textContent = text;
    if (playing) {
      cancelAnimationFrame(this.frame);
      this.frame = requestAnimationFrame(() => this.#tick());
    } else this.#writeLink();
  }

  #play() {
    this.player.play().catch(() => { /* the player has said why */ });
  }

  toggle() {
    this.stopAt = null;
    if (this.player.paused) this.#play();
    else this.player.pause();
  }

  // The event before or after the chosen one, or the position.
  step(direction) {
    const events = this.shown().sort((a, b) => a.start - b.start || a.id - b.id);
    if (!events.length) return;
    const at = events.findIndex((event) => event.id === this.picked);
    let next;
    if (at >= 0) next = events[at + direction];
    else if (direction > 0) next = events.find((event) => event.start >= this.time);
    else next = events.findLast((event) => event.start <= this.time);
    if (next) this.pick(next.id, false);
    else this.say(direction > 0 ? "That was the last event" : "That was the first event");
  }

  pick(id, play) {
    const event = this.edits.get(id);
    this.picked = id;
    this.seek(event.start);
    this.reveal(event.start, event.end);
    this.draw();
    this.say(`${event.label}, ${clock(event.start, 2)} to ${clock(event.end, 2)}, score ${event.score.toFixed(2)}`);
    if (play) {
      this.stopAt = event.end;
      this.#play();
    }
  }
}
