// The list of videos: uploads on their way, jobs, and the server's folder.

import * as api from "./api.js";
import { $, element, fill } from "./dom.js";
import { bytes, clock, count, span } from "./text.js";
import { canBeCancelled, isActive, partDone } from "./watch.js";

const SHOWN_FILES = 200;
const STATES = { uploading: "on its way", queued: "waits", running: "is worked on", done: "done", failed: "failed", cancelled: "cancelled" };

export class Videos {
  constructor(info, say) {
    this.say = say;
    this.timer = null;
    this.files = [];
    this.cards = new Map();
    $("limits").textContent = `At most ${bytes(info.max_upload_bytes)} each; deleted from the server after ${count(info.keep_days, "day")}.`;
    $("files").addEventListener("change", (e) => {
      this.upload(e.target.files);
      e.target.value = "";
    });
    const drop = $("drop");
    for (const kind of ["dragenter", "dragover"]) {
      drop.addEventListener(kind, (e) => {
        e.preventDefault();
        drop.classList.add("over");
      });
    }
    drop.addEventListener("dragleave", () => drop.classList.remove("over"));
    drop.addEventListener("drop", (e) => {
      e.preventDefault();
      drop.classList.remove("over");
      this.upload(e.dataTransfer.files);
    });
    $("folder-section").hidden = !info.folder;
    $("folder-filter").addEventListener("input", () => this.showFolder());
    this.hasFolder = info.folder;
  }

  async show() {
    $("videos").hidden = false;
    document.title = "davel";
    await this.refresh();
    if (this.hasFolder) {
      this.files = await api.folder();
      this.showFolder();
    }
  }

  hide() {
    $("videos").hidden = true;
    clearTimeout(this.timer);
  }

  async refresh() {
    clearTimeout(this.timer);
    let wait = 3000;
    try {
      const jobs = await api.jobs();
      this.showJobs(jobs);
      if (jobs.some(isActive)) wait = 700;
    } catch (error) {
      this.say(error.message);
    }
    if (!$("videos").hidden) this.timer = setTimeout(() => this.refresh(), wait);
  }

  // Cards stay where they are while their text changes, so that focus is not lost.
  showJobs(jobs) {
    const list = $("jobs");
    $("no-jobs").hidden = jobs.length > 0;
    $("annotations").hidden = !jobs.some((job) => job.revision > 0);
    const known = new Set(jobs.map((job) => job.id));
    for (const [id, card] of this.cards) {
      if (!known.has(id)) {
        card.item.remove();
        this.cards.delete(id);
      }
    }
    jobs.forEach((job, n) => {
      let card = this.cards.get(job.id);
      if (!card) {
        card = this.card(job);
        this.cards.set(job.id, card);
      }
      if (list.children[n] !== card.item) list.insertBefore(card.item, list.children[n] ?? null);
      card.update(job);
    });
  }

  card(job) {
    const link = element("a", { href: `#job=${job.id}`, textContent: job.name });
    const state = element("span", { className: "state" });
    const bar = element("progress", { max: 1 });
    bar.setAttribute("aria-label", `Progress of ${job.name}`);
    const button = element("button", { type: "button" });
    let latest = job;
    button.addEventListener("click", async () => {
      const active = canBeCancelled(latest);
      if (!active && !confirm(`Delete ${latest.name} and its results from the server? Saved corrections stay in the table.`)) return;
      try {
        await (active ? api.cancel(job.id) : api.remove(job.id));
        this.say(`${latest.name}: ${active ? "cancelled" : "deleted"}`);
      } catch (error) {
        this.say(error.message);
      }
      await this.refresh();
      if (!active) $("files").focus();
    });
    const item = element("li", {}, link, state, bar, button);
    item.dataset.job = job.id;
    const update = (now) => {
      const wasActive = isActive(latest);
      latest = now;
      if (wasActive && ["done", "failed"].includes(now.state)) this.say(now.error ?? `${now.name}: is done`);
      item.dataset.state = now.state;
      const part = partDone(now);
      bar.hidden = now.state !== "running";
      fill(bar, part);
      const done = part === null ? "" : ` ${Math.round(100 * part)} %`;
      const length = now.duration ? `, ${clock(now.duration, 0)}` : "";
      const saved = now.revision ? ", corrected" : "";
      const text = now.error ?? `${STATES[now.state]}${done}${length}, ${bytes(now.size)}${saved}`;
      if (state.textContent !== text) state.textContent = text;
      const active = canBeCancelled(now);
      button.textContent = active ? "Cancel" : "Delete";
      button.hidden = now.state === "uploading";
      button.setAttribute("aria-label", `${button.textContent} ${now.name}`);
    };
    return { item, update };
  }

  async upload(files) {
    await Promise.all([...files].map((file) => this.uploadOne(file)));
  }

  async uploadOne(file) {
    const bar = element("progress", { max: 1, value: 0 });
    bar.setAttribute("aria-label", `Upload of ${file.name}`);
    const button = element("button", { type: "button", textContent: "Cancel" });
    button.setAttribute("aria-label", `Cancel the upload of ${file.name}`);
    const item = element("li", {}, element("span", { textContent: file.name }), bar, button);
    $("uploads").append(item);
    const began = performance.now();
    const { promise, abort } = api.upload(file, (part) => {
      bar.value = part;
      const left = ((performance.now() - began) / 1000) * (1 / Math.max(part, 1e-3) - 1);
      bar.title = `${span(left)} left`;
    });
    button.addEventListener("click", abort);
    try {
      const job = await promise;
      this.say(`${job.name}: is here and waits its turn`);
    } catch (error) {
      this.say(error.message);
    }
    item.remove();
    if (!$("videos").hidden) await this.refresh();
  }

  showFolder() {
    const wanted = $("folder-filter").value.toLowerCase();
    const found = this.files.filter((file) => file.name.toLowerCase().includes(wanted));
    $("folder-more").textContent =
      found.length > SHOWN_FILES ? `The first ${SHOWN_FILES} of ${found.length}: name more of it.` : count(found.length, "video");
    $("folder").replaceChildren(
      ...found.slice(0, SHOWN_FILES).map((file) => {
        const button = element("button", { type: "button", textContent: "Find events" });
        button.setAttribute("aria-label", `Find the events of ${file.name}`);
        button.addEventListener("click", async () => {
          try {
            const job = await api.choose(file.id);
            location.hash = `job=${job.id}`;
          } catch (error) {
            this.say(error.message);
          }
        });
        const name = file.job ? element("a", { href: `#job=${file.job}`, textContent: file.name }) : element("span", { textContent: file.name });
        return element("li", {}, name, element("span", { className: "state", textContent: bytes(file.size) }), button);
      }),
    );
  }
}
