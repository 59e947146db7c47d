// The events in view, as a table.

import { $, element } from "./dom.js";
import { clock, count } from "./text.js";

const MOST_ROWS = 500;

// `all` are those that are shown, of which some lie between `from` and `to`; `choose` is told the id of one.
export function drawTable(all, { from, to }, picked, choose) {
  const found = all.filter((event) => event.end > from && event.start < to).sort((a, b) => a.start - b.start);
  const part = found.length === all.length ? "" : ` of ${all.length}, those in view`;
  const more = found.length > MOST_ROWS ? `; the first ${MOST_ROWS} are listed: zoom in` : "";
  $("table-caption").textContent = `${count(found.length, "event")}${part}${more}`;
  const focused = document.activeElement?.closest?.("#rows tr")?.dataset.event;
  $("rows").replaceChildren(
    ...found.slice(0, MOST_ROWS).map((event) => {
      const button = element("button", { type: "button", textContent: event.label });
      button.setAttribute("aria-label", `Choose and play ${event.label}, ${clock(event.start, 2)} to ${clock(event.end, 2)}`);
      button.addEventListener("click", () => choose(event.id));
      const cells = [clock(event.start, 2), clock(event.end, 2), button, event.score.toFixed(2)];
      const row = element("tr", {}, ...cells.map((cell) => element("td", {}, cell)));
      row.dataset.event = event.id;
      if (event.id === picked) row.setAttribute("aria-current", "true");
      return row;
    }),
  );
  if (focused !== undefined) $("rows").querySelector(`[data-event="${focused}"] button`)?.focus();
}
