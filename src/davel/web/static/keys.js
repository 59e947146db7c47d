// What the keys do while a video is shown.

import { $ } from "./dom.js";

export function listen(view, editor) {
  addEventListener("keydown", (e) => press(e, view, editor));
}

function press(e, view, editor) {
  const typing = e.target.closest?.("input:not([type=range]):not([type=checkbox]), select, textarea");
  if (document.querySelector("dialog[open]") || !view.edits || e.defaultPrevented) return;
  const command = e.ctrlKey || e.metaKey;
  const name = e.key.length === 1 ? e.key.toLowerCase() : e.key;
  const action = command ? commands(e, editor, typing)[name] : typing || e.altKey ? null : plain(e, view, editor)[name];
  if (!action) return;
  e.preventDefault();
  action();
}

const commands = (e, editor, typing) => ({
  s: () => editor.save(),
  z: typing ? null : () => (e.shiftKey ? editor.redo() : editor.undo()),
  y: typing ? null : () => editor.redo(),
});

// An element that has a meaning of its own for a key keeps it.
function plain(e, view, editor) {
  const on = e.target.closest?.("button, summary, a, input, video");
  const jump = e.shiftKey ? 10 : 1;
  return {
    " ": on ? null : () => view.toggle(),
    Enter: on || view.picked === null ? null : () => view.pick(view.picked, true),
    ArrowLeft: on?.matches("input") ? null : () => view.seek(view.time - jump),
    ArrowRight: on?.matches("input") ? null : () => view.seek(view.time + jump),
    "[": () => view.step(-1),
    "]": () => view.step(1),
    "+": () => view.zoom(0.5),
    "=": () => view.zoom(0.5),
    "-": () => view.zoom(2),
    0: () => view.showAll(),
    n: () => editor.add(),
    i: () => editor.edgeHere("start"),
    o: () => editor.edgeHere("end"),
    Delete: () => editor.remove(),
    "?": () => $("help").showModal(),
  };
}
