// The player: it shows the video itself or, where the browser cannot play that, a small copy that the server makes.

import * as api from "./api.js";
import { $, fill } from "./dom.js";
import { clock } from "./text.js";
import { isActive, partDone, watch } from "./watch.js";

const HEARD_SECONDS = 1; // of sound must have been played before silence means that the browser decodes none

export class Screen {
  constructor(player, say) {
    this.player = player;
    this.say = say;
    this.id = null;
    player.addEventListener("error", () => this.#fail(`This browser cannot play ${this.name}.`));
    player.addEventListener("loadedmetadata", () => {
      if (!player.videoWidth) this.#fail(`This browser cannot show the pictures of ${this.name}.`);
    });
    player.addEventListener("timeupdate", () => {
      if (this.#isSilent()) this.#fail(`This browser cannot play the sound of ${this.name}.`);
    });
    $("make-copy").addEventListener("click", () => this.#make());
    $("cancel-copy").addEventListener("click", () => this.#cancel());
  }

  // `sound` is from when to when there is any.
  open(id, name, time, sound) {
    Object.assign(this, { id, name, sound, failed: false, copied: false, asking: null });
    $("unplayable").hidden = true;
    this.#load(api.media(id), time);
  }

  close() {
    this.id = null;
    this.player.pause();
    this.player.removeAttribute("src");
    this.player.load();
  }

  #load(source, time) {
    this.player.src = source;
    this.player.currentTime = time;
  }

  // Browsers tell in ways of their own whether they decode any sound.
  #isSilent() {
    const { webkitAudioDecodedByteCount: bytes, mozHasAudio: has, played } = this.player;
    if (bytes !== 0 && has !== false) return false;
    const [start, end] = this.sound;
    let heard = 0;
    for (let n = 0; n < played.length; n++) {
      heard += Math.max(Math.min(played.end(n), end) - Math.max(played.start(n), start), 0);
    }
    return heard > HEARD_SECONDS;
  }

  async #fail(text) {
    if (!this.id || this.failed) return;
    if (this.copied) {
      this.#tell(`${text} It cannot play the copy either: use one that plays H.264 and AAC.`, null);
      return;
    }
    this.failed = true;
    this.text = text;
    this.#tell(text, null);
    await this.#follow(() => api.copy(this.id));
  }

  async #make() {
    await this.#follow(() => api.makeCopy(this.id));
  }

  async #cancel() {
    await this.#follow(async () => {
      await api.removeCopy(this.id);
      return null;
    });
  }

  // Asks for the copy's state, shows it until the copy is there, then plays that.
  async #follow(ask) {
    const { id } = this;
    this.asking = ask;
    try {
      const copy = await watch({
        first: ask,
        ask: () => api.copy(id),
        show: (now) => this.#tell(this.text, now),
        wanted: () => this.id === id && this.asking === ask,
      });
      if (copy?.state === "done") this.#change();
    } catch (error) {
      this.say(error.message);
      if (this.id === id && this.asking === ask) this.#tell(this.text, { state: "failed", error: error.message });
    }
  }

  #change() {
    const { player } = this;
    const [time, playing] = [player.currentTime, !player.paused];
    Object.assign(this, { failed: false, copied: true });
    this.#load(api.copyMedia(this.id), time);
    if (playing) player.play().catch(() => { /* the player says why */ });
  }

  // `copy` is its state, null where there is none.
  #tell(text, copy) {
    const active = isActive(copy);
    const focused = $("unplayable").contains(document.activeElement);
    $("unplayable").hidden = false;
    $("unplayable-text").textContent = copy?.state === "done" ? text : `${text} The events and their times are right.`;
    $("copy-progress").hidden = !active;
    $("copy-text").hidden = !copy;
    $("make-copy").hidden = active || copy?.state === "done" || this.copied;
    $("cancel-copy").hidden = !active;
    if (focused) [$("cancel-copy"), $("make-copy"), $("play")].find((button) => !button.hidden).focus();
    if (!copy) return;
    fill($("copy-progress"), partDone(copy));
    const length = copy.duration ? ` of ${clock(copy.duration, 0)}` : "";
    $("copy-text").textContent = {
      queued: "The copy waits its turn",
      running: `Copying: ${clock(copy.seconds ?? 0, 0)}${length}`,
      failed: copy.error,
      done: "What you see is a small copy of it, in step with the events.",
    }[copy.state];
  }
}
