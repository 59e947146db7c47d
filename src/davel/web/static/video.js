// One video: how far its job is, then what was found in it, and its correction.

import * as api from "./api.js";
import { $, fill } from "./dom.js";
import { Editor } from "./editor.js";
import { Edits } from "./edits.js";
import * as keys from "./keys.js";
import { clock, span } from "./text.js";
import { View } from "./view.js";
import { isActive, partDone, watch } from "./watch.js";

export class Video {
  constructor(info, say) {
    Object.assign(this, { say, id: null });
    this.editor = new Editor(info, say);
    this.view = new View(info, say, {
      resize: (id, changes) => this.editor.change(id, changes),
      drawn: () => this.editor.draw(),
    });
    this.editor.view = this.view;
    keys.listen(this.view, this.editor);
    $("cancel").addEventListener("click", () => this.cancel());
    addEventListener("beforeunload", (e) => {
      if (this.view.edits?.changed) e.preventDefault();
    });
  }

  // Waits for the job, then shows what came of it.
  async show(id) {
    Object.assign(this, { id, began: null });
    $("video-view").hidden = false;
    $("viewer").hidden = true;
    const ask = () => api.job(id);
    const wanted = () => this.id === id;
    const job = await watch({ first: ask, ask, show: (now) => this.#showJob(now), wanted });
    if (job?.state !== "done") return;
    const [result, kept, truth] = await Promise.all([api.result(id), api.events(id), api.truth(id)]);
    if (!wanted()) return;
    $("viewer").hidden = false;
    this.editor.revision = kept.revision;
    this.view.open({ id, name: job.name, result, kept, truth, edits: new Edits(kept.events) });
  }

  #showJob(job) {
    document.title = `${job.name} – davel`;
    $("video-title").textContent = job.name;
    $("working").hidden = job.state === "done";
    $("cancel").hidden = $("progress").hidden = !isActive(job);
    fill($("progress"), partDone(job));
    $("progress-text").textContent = this.#progress(job);
  }

  #progress(job) {
    if (job.state !== "running") {
      return { uploading: "On its way", queued: "Waits its turn", cancelled: "Cancelled", failed: job.error, done: "" }[job.state];
    }
    this.began ??= { at: performance.now(), seconds: job.seconds };
    const speed = (job.seconds - this.began.seconds) / ((performance.now() - this.began.at) / 1000);
    const length = job.duration ? ` of ${clock(job.duration, 0)}` : "";
    const left = speed > 0 && job.duration ? `, ${span((job.duration - job.seconds) / speed)} left` : "";
    return `${clock(job.seconds, 0)}${length}${left}`;
  }

  // False if the person wants to stay.
  leave() {
    if (this.view.edits?.changed && !confirm("Leave without saving your corrections?")) return false;
    this.id = null;
    this.view.close();
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
}
