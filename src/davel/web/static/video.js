// One video: how far its job is, then the player, what was found, and its correction.

import * as api from "./api.js";
import { Edits } from "./edits.js";
import * as link from "./link.js";
import { Screen } from "./screen.js";
import { clock, count, element, span } from "./text.js";
import { Timeline } from "./timeline.js";

const $ = (id) => document.getElementById(id);
const MOST_ROWS = 500;
const NEW_EVENT_SECONDS = 2;

export class Video {
  constructor(info, say) {
    this.info = info;
    this.say = say;
    this.id = null;
    this.player = $("video");
    this.screen = new Screen(this.player, say);
    this.timeline = new Timeline({
      seek: (t) => this.seek(t),
      pick: (id, play) => this.pick(id, play),
      resize: (id, changes) => this.change(id, changes),
      view: () => this.afterMoving(),
    });
    $("format").append(...info.formats.map(({ name, suffix }) => new Option(`${name} (.${suffix})`, name)));
    $("labels").append(...info.model.labels.map((label) => new Option(label)));
    $("threshold").min = info.least_score;
    this.#listen();
  }

  #listen() {
    const click = (id, action) => $(id).addEventListener("click", action);
    click("cancel", () => this.cancel());
    click("play", () => this.toggle());
    click("previous", () => this.step(-1));
    click("next", () => this.step(1));
    click("zoom-in", () => this.timeline.zoom(0.5));
    click("zoom-out", () => this.timeline.zoom(2));
    click("zoom-all", () => this.timeline.show(0, this.duration));
    click("filter-all", () => this.hide([]));
    click("filter-none", () => this.hide(this.allLabels()));
    click("add", () => this.add());
    click("undo", () => this.undo());
    click("redo", () => this.redo());
    click("save", () => this.save());
    click("download", () => this.download());
    click("delete", () => this.remove());
    click("start-here", () => this.edgeHere("start"));
    click("end-here", () => this.edgeHere("end"));
    $("threshold").addEventListener("input", (e) => {
      this.threshold = Number(e.target.value);
      this.draw();
    });
    $("edit").addEventListener("submit", (e) => e.preventDefault());
    for (const [id, key] of [["edit-label", "label"], ["edit-start", "start"], ["edit-end", "end"]]) {
      $(id).addEventListener("change", () => this.changeByForm(key, $(id)));
    }
    this.player.addEventListener("timeupdate", () => this.tick());
    this.player.addEventListener("seeked", () => this.tick());
    for (const kind of ["play", "pause"]) {
      this.player.addEventListener(kind, () => {
        $("play").textContent = this.player.paused ? "Play" : "Pause";
        this.tick();
      });
    }
    addEventListener("keydown", (e) => this.key(e));
    addEventListener("beforeunload", (e) => {
      if (this.id && this.edits?.changed) e.preventDefault();
    });
  }

  // Waits for the job, then shows what came of it.
  async show(id) {
    this.id = id;
    this.edits = null;
    $("video-view").hidden = false;
    $("viewer").hidden = true;
    for (;;) {
      const job = await api.job(id);
      if (this.id !== id) return;
      this.name = job.name;
      document.title = `${job.name} – davel`;
      $("video-title").textContent = job.name;
      const active = ["uploading", "queued", "running"].includes(job.state);
      $("working").hidden = job.state === "done";
      $("cancel").hidden = !active;
      $("progress").hidden = !active;
      if (job.state === "done") break;
      this.#showProgress(job);
      if (!active) return;
      await new Promise((resolve) => setTimeout(resolve, 500));
      if (this.id !== id) return;
    }
    const [result, kept, truth] = await Promise.all([api.result(id), api.events(id), api.truth(id)]);
    if (this.id !== id) return;
    this.#open(result, kept, truth);
  }

  #showProgress(job) {
    const bar = $("progress");
    if (job.state !== "running" || !job.duration) bar.removeAttribute("value");
    else bar.value = Math.min(job.seconds / job.duration, 1);
    let text = { uploading: "On its way", queued: "Waits its turn", cancelled: "Cancelled", failed: job.error }[job.state];
    if (job.state === "running") {
      text = `${clock(job.seconds, 0)}${job.duration ? ` of ${clock(job.duration, 0)}` : ""}`;
      this.began ??= { at: performance.now(), seconds: job.seconds };
      const speed = (job.seconds - this.began.seconds) / ((performance.now() - this.began.at) / 1000);
      if (speed > 0 && job.duration) text += `, ${span((job.duration - job.seconds) / speed)} left`;
    }
    $("progress-text").textContent = text;
  }

  #open(result, kept, truth) {
    const given = link.read();
    this.began = null;
    this.duration = result.media.duration_seconds;
    this.revision = kept.revision;
    this.edits = new Edits(kept.events);
    this.truth = truth;
    this.threshold = given.threshold ?? (kept.corrected ? this.info.least_score : this.info.model.threshold);
    this.hidden = new Set(given.hidden);
    this.picked = null;
    this.stopAt = null;
    $("viewer").hidden = false;
    this.screen.open(this.id, this.name, given.time ?? 0, result.coverage.audio);
    $("legend").textContent = `Blocks: what was found, the stronger the surer.${truth ? " Bars under them: the true events." : ""}`;
    this.timeline.load(this.id, this.duration, result.gates);
    this.timeline.show(given.from ?? 0, given.to ?? this.duration);
    this.draw();
    this.tick();
    const warnings = result.coverage.warnings ?? [];
    this.say([count(this.shown().length, "event"), ...(kept.corrected ? ["as they were saved"] : []), ...warnings].join("; "));
  }

  // False if the person wants to stay.
  leave() {
    if (this.id && this.edits?.changed && !confirm("Leave without saving your corrections?")) return false;
    this.id = null;
    this.edits = null;
    this.began = null;
    this.screen.close();
    $("video-view").hidden = true;
    return true;
  }

  async cancel() {
    try {
      await api.cancel(this.id);
    } catch (error) {
      this.say(error.message);
    }
  }

  // What is shown and what is drawn.

  above() {
    return this.edits.events.filter((event) => event.score >= this.threshold);
  }

  shown() {
    return this.above().filter((event) => !this.hidden.has(event.label));
  }

  allLabels() {
    const used = new Set([...this.edits.events, ...(this.truth ?? [])].map((event) => event.label));
    return [...new Set([...this.info.model.labels.filter((label) => used.has(label)), ...used])];
  }

  draw() {
    if (!this.edits) return;
    const events = this.shown();
    const truth = (this.truth ?? []).filter((event) => !this.hidden.has(event.label));
    const lanes = this.allLabels()
      .map((label) => ({
        label,
        events: events.filter((event) => event.label === label),
        truth: this.truth ? truth.filter((event) => event.label === label) : null,
      }))
      .filter((lane) => lane.events.length || lane.truth?.length);
    if (!events.some((event) => event.id === this.picked)) this.picked = null;
    this.timeline.setLanes(lanes, this.picked);
    $("threshold").value = this.threshold;
    $("threshold-value").textContent = this.threshold.toFixed(2);
    $("undo").disabled = !this.edits.past.length;
    $("redo").disabled = !this.edits.future.length;
    $("save").textContent = this.edits.changed ? "Save *" : "Save";
    this.#drawFilter();
    this.#drawForm();
    this.#drawTable();
    this.#writeLink();
  }

  #drawFilter() {
    const labels = this.allLabels();
    const list = $("classes");
    const known = [...list.querySelectorAll("input")].map((box) => box.value);
    if (known.join("\n") !== labels.join("\n")) {
      list.replaceChildren(
        ...labels.map((label) => {
          const box = element("input", { type: "checkbox", value: label });
          box.addEventListener("change", () => {
            if (box.checked) this.hidden.delete(label);
            else this.hidden.add(label);
            this.draw();
          });
          return element("li", {}, element("label", {}, box, ` ${label}`));
        }),
      );
    }
    for (const box of list.querySelectorAll("input")) box.checked = !this.hidden.has(box.value);
    const off = labels.filter((label) => this.hidden.has(label)).length;
    $("filter").querySelector("summary").textContent = off ? `Classes (${labels.length - off} of ${labels.length})` : "Classes";
  }

  hide(labels) {
    this.hidden = new Set(labels);
    this.draw();
  }

  #drawForm() {
    const event = this.edits.get(this.picked);
    $("edit").hidden = !event;
    if (!event) return;
    $("edit-label").value = event.label;
    $("edit-start").value = event.start.toFixed(2);
    $("edit-end").value = event.end.toFixed(2);
    for (const id of ["edit-label", "edit-start", "edit-end"]) $(id).setCustomValidity("");
  }

  #drawTable() {
    const { from, to } = this.timeline;
    const found = this.shown().filter((event) => event.end > from && event.start < to).sort((a, b) => a.start - b.start);
    const all = this.shown().length;
    const part = found.length === all ? "" : ` of ${all}, those in view`;
    const more = found.length > MOST_ROWS ? `; the first ${MOST_ROWS} are listed: zoom in` : "";
    $("table-caption").textContent = `${count(found.length, "event")}${part}${more}`;
    const focused = document.activeElement?.closest?.("#rows tr")?.dataset.event;
    $("rows").replaceChildren(
      ...found.slice(0, MOST_ROWS).map((event) => {
        const button = element("button", { type: "button", textContent: event.label });
        button.setAttribute("aria-label", `Choose and play ${event.label}, ${clock(event.start, 2)} to ${clock(event.end, 2)}`);
        button.addEventListener("click", () => this.pick(event.id, true));
        const cells = [clock(event.start, 2), clock(event.end, 2), button, event.score.toFixed(2)];
        const row = element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
        row.dataset.event = event.id;
        if (event.id === this.picked) row.setAttribute("aria-current", "true");
        return row;
      }),
    );
    if (focused !== undefined) $("rows").querySelector(`[data-event="${focused}"] button`)?.focus();
  }

  #writeLink() {
    clearTimeout(this.linking);
    this.linking = setTimeout(() => {
      if (!this.edits) return;
      const { from, to } = this.timeline;
      link.write({ job: this.id, time: this.time, from, to, threshold: this.threshold, hidden: this.hidden });
    }, 200);
  }

  afterMoving() {
    if (!this.edits) return;
    this.#drawTable();
    this.#writeLink();
  }

  // Playing.

  get time() {
    return this.player.currentTime || 0;
  }

  seek(time) {
    this.stopAt = null;
    this.player.currentTime = Math.min(Math.max(time, 0), this.duration);
    this.tick();
  }

  tick() {
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
      this.frame = requestAnimationFrame(() => this.tick());
    } else this.#writeLink();
  }

  play() {
    this.player.play().catch(() => { /* the player has said why */ });
  }

  toggle() {
    this.stopAt = null;
    if (this.player.paused) this.play();
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
    this.timeline.reveal(event.start, event.end);
    this.draw();
    this.say(`${event.label}, ${clock(event.start, 2)} to ${clock(event.end, 2)}, score ${event.score.toFixed(2)}`);
    if (play) {
      this.stopAt = event.end;
      this.play();
    }
  }

  // Correcting.

  add() {
    const near = this.edits.get(this.picked) ?? this.shown()[0];
    const length = Math.min(NEW_EVENT_SECONDS, this.duration);
    const start = Math.min(Math.round(this.time * 100) / 100, this.duration - length);
    const label = near?.label ?? this.info.model.labels[0];
    this.hidden.delete(label);
    this.picked = this.edits.add({ label, start, end: start + length, score: 1 });
    this.timeline.reveal(start, start + length);
    this.draw();
    $("edit-label").focus();
    $("edit-label").select();
    this.say("New event: say what it is, and move its edges");
  }

  change(id, changes) {
    this.edits.change(id, changes);
    if (changes.label) this.hidden.delete(changes.label);
    this.draw();
  }

  changeByForm(key, field) {
    const event = this.edits.get(this.picked);
    if (!event) return;
    const value = key === "label" ? field.value.trim() : Number(field.value);
    const next = { ...event, [key]: value };
    let wrong = "";
    if (key === "label" && !value) wrong = "An event needs a name";
    else if (key !== "label" && (field.value === "" || !Number.isFinite(value))) wrong = "Give seconds";
    else if (!(next.start >= 0 && next.start < next.end)) wrong = "An event ends after its start";
    else if (next.end > this.duration + 0.005) wrong = `The video ends at ${this.duration.toFixed(2)} s`;
    field.setCustomValidity(wrong);
    if (wrong) {
      field.reportValidity();
      this.say(wrong);
      return;
    }
    this.change(this.picked, { [key]: key === "label" ? value : Math.min(value, this.duration) });
  }

  edgeHere(edge) {
    const event = this.edits.get(this.picked);
    if (!event) return this.say("Choose an event first");
    const time = Math.round(this.time * 100) / 100;
    if (edge === "start" ? time >= event.end : time <= event.start) return this.say("An event ends after its start");
    this.change(this.picked, { [edge]: time });
    return this.say(`${edge === "start" ? "Starts" : "Ends"} at ${clock(time, 2)}`);
  }

  remove() {
    const event = this.edits.get(this.picked);
    if (!event) return this.say("Choose an event first");
    this.edits.remove(this.picked);
    this.picked = null;
    this.draw();
    $("undo").focus();
    return this.say(`Deleted ${event.label}`);
  }

  undo() {
    this.say(this.edits.undo() ? "Undone" : "Nothing to undo");
    this.draw();
  }

  redo() {
    this.say(this.edits.redo() ? "Done again" : "Nothing to do again");
    this.draw();
  }

  #plain(events) {
    return events.map(({ label, start, end, score }) => ({ label, start, end, score }));
  }

  // All classes, whatever is hidden, that score enough.
  async save() {
    const events = this.above();
    const left = this.edits.events.length - events.length;
    const unseen = events.length - this.shown().length;
    try {
      const kept = await api.save(this.id, this.revision, this.#plain(events));
      this.revision = kept.revision;
      this.edits.markSaved();
      this.draw();
      this.say(
        `Saved ${count(events.length, "event")}` +
          (left ? `; ${left} that score less than ${this.threshold.toFixed(2)} were left out` : "") +
          (unseen ? `; ${unseen} of them are of classes that are hidden now` : ""),
      );
    } catch (error) {
      if (error.status === 409) await this.#settle();
      else this.say(error.message);
    }
  }

  async #settle() {
    const dialog = $("conflict");
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (!dialog.returnValue) return;
    try {
      const theirs = await api.events(this.id);
      this.revision = theirs.revision;
      if (dialog.returnValue === "mine") {
        await this.save();
        return;
      }
      this.edits.load(theirs.events);
      this.picked = null;
      this.draw();
      this.say("These are the events as somebody else has saved them");
    } catch (error) {
      this.say(error.message);
    }
  }

  async download() {
    try {
      const { name, content, lost } = await api.written(this.id, $("format").value, this.#plain(this.shown()));
      const address = URL.createObjectURL(content);
      element("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
      this.say(`${name}: ${count(this.shown().length, "event")}${lost ? ` (${lost})` : ""}`);
    } catch (error) {
      this.say(error.message);
    }
  }

  key(e) {
    const dialog = document.querySelector("dialog[open]");
    const typing = e.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea");
    if (dialog || !this.edits || e.defaultPrevented) return;
    const command = e.ctrlKey || e.metaKey;
    const name = e.key.length === 1 ? e.key.toLowerCase() : e.key;
    if (command && name === "s") return this.#take(e, () => this.save());
    if (typing) return;
    if (command && name === "z") return this.#take(e, () => (e.shiftKey ? this.redo() : this.undo()));
    if (command && name === "y") return this.#take(e, () => this.redo());
    if (command || e.altKey) return;
    const on = e.target.closest?.("button, summary, a, input, video");
    const jump = e.shiftKey ? 10 : 1;
    const keys = {
      " ": on ? null : () => this.toggle(),
      Enter: on || this.picked === null ? null : () => this.pick(this.picked, true),
      ArrowLeft: on?.matches("input") ? null : () => this.seek(this.time - jump),
      ArrowRight: on?.matches("input") ? null : () => this.seek(this.time + jump),
      "[": () => this.step(-1),
      "]": () => this.step(1),
      "+": () => this.timeline.zoom(0.5),
      "=": () => this.timeline.zoom(0.5),
      "-": () => this.timeline.zoom(2),
      0: () => this.timeline.show(0, this.duration),
      n: () => this.add(),
      i: () => this.edgeHere("start"),
      o: () => this.edgeHere("end"),
      Delete: () => this.remove(),
      "?": () => $("help").showModal(),
    };
    if (keys[name]) this.#take(e, keys[name]);
  }

  #take(e, action) {
    e.preventDefault();
    action();
  }
}
