// Waiting for what the server does: jobs, and copies of videos. Each has a state, and the seconds that are done.

const ACTIVE = ["uploading", "queued", "running"];
const WAIT_MILLISECONDS = 500;

export const isActive = (work) => ACTIVE.includes(work?.state);

// An upload ends by itself.
export const canBeCancelled = (work) => isActive(work) && work.state !== "uploading";

// Of 1; null where it is not known.
export const partDone = (work) => (work.state === "running" && work.duration ? Math.min(work.seconds / work.duration, 1) : null);

// Shows how far something is until it is over, and gives that; undefined once it is not `wanted` any more.
// `first` is asked before anything else, then `ask` again and again.
export async function watch({ first, ask, show, wanted, wait = WAIT_MILLISECONDS }) {
  let work = await first();
  while (wanted()) {
    show(work);
    if (!isActive(work)) return work;
    await new Promise((resolve) => setTimeout(resolve, wait));
    if (!wanted()) break;
    work = await ask();
  }
  return undefined;
}
