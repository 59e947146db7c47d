// Which classes are shown: a list of boxes.

import { $, element } from "./dom.js";

export class Filter {
  // `change` is called when a person has chosen.
  constructor(change) {
    this.change = change;
    this.labels = [];
    this.hidden = new Set();
    $("filter-all").addEventListener("click", () => this.hide([]));
    $("filter-none").addEventListener("click", () => this.hide(this.labels));
  }

  shows(label) {
    return !this.hidden.has(label);
  }

  reveal(label) {
    this.hidden.delete(label);
  }

  hide(labels) {
    this.hidden = new Set(labels);
    this.change();
  }

  draw(labels) {
    const list = $("classes");
    if (this.labels.join("\n") !== labels.join("\n") || list.children.length !== labels.length) {
      list.replaceChildren(...labels.map((label) => element("li", {}, element("label", {}, this.#box(label), ` ${label}`))));
    }
    this.labels = labels;
    for (const box of list.querySelectorAll("input")) box.checked = this.shows(box.value);
    const off = labels.filter((label) => !this.shows(label)).length;
    $("filter").querySelector("summary").textContent = off ? `Classes (${labels.length - off} of ${labels.length})` : "Classes";
  }

  #box(label) {
    const box = element("input", { type: "checkbox", value: label });
    box.addEventListener("change", () => {
      if (box.checked) this.hidden.delete(label);
      else this.hidden.add(label);
      this.change();
    });
    return box;
  }
}
