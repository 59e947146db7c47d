// The correction of what is shown: new, moved, named and deleted events, undone steps, saving and downloading.

import * as api from "./api.js";
import { $, element } from "./dom.js";
import { clock, count } from "./text.js";

const NEW_EVENT_SECONDS = 2;
const FIELDS = { label: "edit-label", start: "edit-start", end: "edit-end" };
const hundredths = (time) => Math.round(time * 100) / 100;
const plain = (events) => events.map(({ label, start, end, score }) => ({ label, start, end, score }));

export class Editor {
  // The view has the events, `edits`, and says which is chosen.
  constructor(info, say) {
    Object.assign(this, { info, say, view: null, revision: 0, saving: false });
    $("format").append(...info.formats.map(({ name, suffix }) => new Option(`${name} (.${suffix})`, name)));
    $("labels").append(...info.model.labels.map((label) => new Option(label)));
    const click = (id, action) => $(id).addEventListener("click", action);
    click("add", () => this.add());
    click("undo", () => this.undo());
    click("redo", () => this.redo());
    click("save", () => this.save());
    click("download", () => this.download());
    click("delete", () => this.remove());
    click("start-here", () => this.edgeHere("start"));
    click("end-here", () => this.edgeHere("end"));
    $("edit").addEventListener("submit", (e) => e.preventDefault());
    for (const [key, id] of Object.entries(FIELDS)) $(id).addEventListener("change", () => this.#changeByForm(key, $(id)));
  }

  get edits() {
    return this.view.edits;
  }

  get picked() {
    return this.edits.get(this.view.picked);
  }

  draw() {
    $("undo").disabled = !this.edits.past.length;
    $("redo").disabled = !this.edits.future.length;
    $("save").textContent = this.edits.changed ? "Save *" : "Save";
    const event = this.picked;
    $("edit").hidden = !event;
    if (!event) return;
    $(FIELDS.label).value = event.label;
    $(FIELDS.start).value = event.start.toFixed(2);
    $(FIELDS.end).value = event.end.toFixed(2);
    for (const id of Object.values(FIELDS)) $(id).setCustomValidity("");
  }

  add() {
    const { view } = this;
    const near = this.picked ?? view.shown()[0];
    const length = Math.min(NEW_EVENT_SECONDS, view.duration);
    const start = Math.min(hundredths(view.time), view.duration - length);
    const label = near?.label ?? this.info.model.labels[0];
    view.filter.reveal(label);
    view.picked = this.edits.add({ label, start, end: start + length, score: 1 });
    view.reveal(start, start + length);
    view.draw();
    $(FIELDS.label).focus();
    $(FIELDS.label).select();
    this.say("New event: say what it is, and move its edges");
  }

  change(id, changes) {
    this.edits.change(id, changes);
    if (changes.label) this.view.filter.reveal(changes.label);
    this.view.draw();
  }

  #changeByForm(key, field) {
    const event = this.picked;
    if (!event) return;
    const value = key === "label" ? field.value.trim() : Number(field.value);
    const wrong = this.#fault({ ...event, [key]: value }, key, field.value);
    field.setCustomValidity(wrong);
    if (wrong) {
      field.reportValidity();
      this.say(wrong);
      return;
    }
    this.change(event.id, { [key]: key === "label" ? value : Math.min(value, this.view.duration) });
  }

  // What speaks against an event whose `key` a person has typed as `text`; nothing if it may be.
  #fault({ label, start, end }, key, text) {
    const { duration } = this.view;
    if (key === "label") return label ? "" : "An event needs a name";
    if (text === "" || !Number.isFinite(Number(text))) return "Give seconds";
    if (!(start >= 0 && start < end)) return "An event ends after its start";
    return end > duration + 0.005 ? `The video ends at ${duration.toFixed(2)} s` : "";
  }

  edgeHere(edge) {
    const event = this.picked;
    if (!event) return this.say("Choose an event first");
    const time = hundredths(this.view.time);
    if (edge === "start" ? time >= event.end : time <= event.start) return this.say("An event ends after its start");
    this.change(event.id, { [edge]: time });
    return this.say(`${edge === "start" ? "Starts" : "Ends"} at ${clock(time, 2)}`);
  }

  remove() {
    const event = this.picked;
    if (!event) return this.say("Choose an event first");
    this.edits.remove(event.id);
    this.view.picked = null;
    this.view.draw();
    $("undo").focus();
    return this.say(`Deleted ${event.label}`);
  }

  undo() {
    this.say(this.edits.undo() ? "Undone" : "Nothing to undo");
    this.view.draw();
  }

  redo() {
    this.say(this.edits.redo() ? "Done again" : "Nothing to do again");
    this.view.draw();
  }

  // All classes, whatever is hidden, that score enough. What is changed while the server answers is not saved yet.
  async save() {
    if (this.saving) return;
    const { view, edits } = this;
    const [id, sent, events] = [view.id, edits.events, view.above()];
    const left = sent.length - events.length;
    const unseen = events.length - view.shown().length;
    const threshold = view.threshold.toFixed(2);
    this.saving = true;
    try {
      const kept = await api.save(id, this.revision, plain(events));
      if (view.id !== id) return;
      this.revision = kept.revision;
      edits.markSaved(sent);
      view.draw();
      this.say(
        `Saved ${count(events.length, "event")}` +
          (left ? `; ${left} that score less than ${threshold} were left out` : "") +
          (unseen ? `; ${unseen} of them are of classes that are hidden now` : ""),
      );
    } catch (error) {
      if (view.id !== id || error.status !== 409) this.say(error.message);
      else this.#settle(id);
    } finally {
      this.saving = false;
    }
  }

  // Somebody else has saved this video meanwhile.
  async #settle(id) {
    const { view } = this;
    const dialog = $("conflict");
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    if (!dialog.returnValue) return;
    try {
      const theirs = await api.events(id);
      if (view.id !== id) return;
      this.revision = theirs.revision;
      if (dialog.returnValue === "mine") {
        await this.save();
        return;
      }
      view.edits.load(theirs.events);
      view.picked = null;
      view.draw();
      this.say("These are the events as somebody else has saved them");
    } catch (error) {
      this.say(error.message);
    }
  }

  async download() {
    const events = this.view.shown();
    try {
      const { name, content, lost } = await api.written(this.view.id, $("format").value, plain(events));
      const address = URL.createObjectURL(content);
      element("a", { href: address, download: name }).click();
      setTimeout(() => URL.revokeObjectURL(address), 10_000);
      this.say(`${name}: ${count(events.length, "event")}${lost ? ` (${lost})` : ""}`);
    } catch (error) {
      this.say(error.message);
    }
  }
}
