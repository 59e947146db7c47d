// What is drawn on an axis of time: the ruler, the sound, and curves.

import { points } from "./curves.js";
import { clock } from "./text.js";

const TICKS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200];
const TICK_PIXELS = 70; // between two marks, at least

// An empty canvas as sharp as the screen, and where on it a time is.
function frame(canvas, { from, to }) {
  const scale = devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  const context = canvas.getContext("2d");
  context.scale(scale, scale);
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  return { context, width, height, colour, x: (t) => ((t - from) / (to - from)) * width };
}

export function drawRuler(canvas, span) {
  const { context, width, height, colour, x } = frame(canvas, span);
  const least = ((span.to - span.from) / width) * TICK_PIXELS;
  const step = TICKS.find((tick) => tick >= least) ?? Math.ceil(least / 3600) * 3600;
  context.fillStyle = context.strokeStyle = colour("quiet");
  context.font = "11px system-ui, sans-serif";
  for (let n = Math.ceil(span.from / step); n * step <= span.to; n++) {
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

// `peaks` is null while they are on their way, or { from, to, bins: [[least, greatest]] } of 127.
export function drawWaveform(canvas, span, peaks) {
  const { context, width, height, colour, x } = frame(canvas, span);
  context.fillStyle = colour("sound");
  if (!peaks) return;
  const step = (peaks.to - peaks.from) / peaks.bins.length;
  peaks.bins.forEach(([low, high], n) => {
    const left = x(peaks.from + n * step);
    const right = x(peaks.from + (n + 1) * step);
    if (right < 0 || left > width) return;
    const top = (height / 2) * (1 - high / 127);
    const bottom = (height / 2) * (1 - low / 127);
    context.fillRect(left, top, Math.max(right - left, 0.75), Math.max(bottom - top, 0.75));
  });
}

export function drawCurve(canvas, span, curve) {
  const { context, width, height, colour, x } = frame(canvas, span);
  const found = points(curve, span.from, span.to, 2 * width);
  if (!found.length) return;
  context.fillStyle = colour("gate");
  context.beginPath();
  context.moveTo(x(found[0][0]), height);
  for (const [time, value] of found) context.lineTo(x(time), height * (1 - Math.min(Math.max(value, 0), 1)));
  context.lineTo(x(found.at(-1)[0]), height);
  context.fill();
}
