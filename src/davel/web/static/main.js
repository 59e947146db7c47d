// The page: a list of videos, or one of them, as the address says.

import * as api from "./api.js";
import { $ } from "./dom.js";
import { read } from "./link.js";
import { Video } from "./video.js";
import { Videos } from "./videos.js";

function say(text) {
  $("status").textContent = text;
}

async function start() {
  let info;
  try {
    info = await api.info();
  } catch (error) {
    say(error.message);
    return;
  }
  $("model").textContent = `model ${info.model.name}, ${info.model.labels.length} classes`;
  const videos = new Videos(info, say);
  const video = new Video(info, say);

  async function show() {
    const { job } = read();
    if (job && job === video.id) return;
    if (!video.leave()) {
      history.replaceState(null, "", `#job=${video.id}`);
      return;
    }
    videos.hide();
    try {
      await (job ? video.show(job) : videos.show());
    } catch (error) {
      say(error.message);
      if (error.status === 404) await videos.show();
    }
  }

  addEventListener("hashchange", show);
  $("help-button").addEventListener("click", () => $("help").showModal());
  await show();
}

start();
