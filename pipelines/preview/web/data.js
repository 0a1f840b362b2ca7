"use strict";
// What the page is about, and the few helpers that every part below uses. All files share one scope.

const page = JSON.parse(document.getElementById("data").textContent);
const records = page.records.map((record, position) => ({ ...record, position }));
const articles = records.map((record) => byId(`card-${record.position}`));

/**
 * What a person has set; `shown` holds the positions that pass the filters, in their order; `tabs` is whether the last
 * key was Tab.
 */
const settings = { slider: false, steps: false, overlay: "off", current: 0, shown: [], tabs: false };

function byId(id) {
  return document.getElementById(id);
}

/** An element with attributes (`on...` are listeners, null and false are left out) and children; strings become text. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

const parsed = new Map();

/** {sources, pair} of a card. Parsed when first needed: most of five hundred cards are never looked at. */
function picturesOf(position) {
  if (!parsed.has(position)) {
    const holder = articles[position].querySelector("script.pictures");
    parsed.set(position, JSON.parse(holder.textContent));
    holder.remove();
  }
  return parsed.get(position);
}

let toastTimer = 0;

/** A short message at the foot of the page, or of the dialog that lies over it, for some seconds. */
function say(text) {
  const toast = byId("toast");
  (document.querySelector("dialog[open]") ?? document.body).append(toast);
  toast.textContent = text;
  toast.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { toast.hidden = true; }, 4500);
}

function plural(count, noun) {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
