// Elements of the page.

export const $ = (id) => document.getElementById(id);

// A new element with properties and children.
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// A progress bar at a part of 1, or moving where nobody knows how far it is (null).
export function fill(bar, part) {
  if (part === null) bar.removeAttribute("value");
  else bar.value = part;
}
