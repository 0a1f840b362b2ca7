// Puts the parts together.

const book = new MarkBook(page.identity, (key) => tellMarks(key));
let hashTimer = 0;

/** The address follows the view, a moment later: browsers object to an address that changes with every key. */
function writeHash() {
  clearTimeout(hashTimer);
  hashTimer = setTimeout(() => {
    const parts = new URLSearchParams(toHash());
    if (settings.shown.indexOf(settings.current) > 0) parts.set("at", records[settings.current].key);
    const fragment = parts.toString();
    if (fragment !== location.hash.slice(1)) history.replaceState(null, "", `#${fragment}`);
  }, 150);
}

/** Shows what the filters let pass, in order. The current sample stays current where it is still shown. */
function refresh() {
  const before = settings.shown;
  settings.shown = ordered(records.map((record) => record.position).filter((position) => passes(records[position])));
  const isShown = new Set(settings.shown);
  articles.forEach((article, position) => { article.hidden = !isShown.has(position); });
  const order = ordered(articles.map((_, position) => position));
  // Moving an element takes the focus from what is in it, so nothing is moved without need.
  if (order.some((position, at) => byId("list").children[at] !== articles[position])) {
    byId("list").append(...order.map((position) => articles[position]));
  }
  byId("nothing").hidden = settings.shown.length > 0;
  byId("clear").hidden = !isFiltered();
  for (const refresher of refreshers) refresher();
  if (settings.shown.length && !isShown.has(settings.current)) {
    // Where the current one has gone, the one that came after it in the last view takes its place.
    const rest = before.slice(before.indexOf(settings.current) + 1);
    setCurrent(rest.find((position) => isShown.has(position)) ?? settings.shown.at(-1), false);
    if (byId("focus").open) focusView.show(settings.current);
  }
  tellCount();
  writeHash();
}

function clearFilters() {
  Object.assign(filters, noFilters());
  refresh();
  setCurrent(settings.shown[0]);
}

/** The view that the address asks for. */
function readHash() {
  fromHash(location.hash.slice(1));
  refresh();
  unfoldSteps(settings.steps);
  const key = new URLSearchParams(location.hash.slice(1)).get("at");
  const at = settings.shown.find((position) => records[position].key === key);
  if (settings.shown.length) setCurrent(at ?? settings.shown[0], at !== undefined);
}

buildBar();
buildMarking();
buildKeys();
focusView.build();
for (const article of articles) {
  nearby.observe(article);
  article.querySelector("details.steps")?.addEventListener("toggle", () => {
    if (loaded.has(positionOf(article))) load(positionOf(article));
  });
  article.addEventListener("pointerdown", () => setCurrent(positionOf(article), false));
  article.addEventListener("focusin", () => {
    // Not where a dialog that closes gives the focus back to the card that had it.
    if (settings.tabs && settings.current !== positionOf(article)) setCurrent(positionOf(article), false);
  });
}
byId("list").addEventListener("click", (event) => {
  const picture = event.target.closest("button.picture");
  if (picture) focusView.open(positionOf(picture), picture.dataset.view);
});
byId("slider")?.addEventListener("click", () => {
  settings.slider = !settings.slider;
  refreshLook();
});
byId("overlay")?.addEventListener("click", nextOverlay);
byId("steps")?.addEventListener("click", () => {
  unfoldSteps(!settings.steps);
  articles[settings.current].scrollIntoView({ block: "start", behavior: "instant" });
});
byId("clear").addEventListener("click", clearFilters);
byId("nothing").querySelector("button").addEventListener("click", clearFilters);
byId("unfold").addEventListener("click", () => {
  const isOpen = byId("bar").classList.toggle("unfolded");
  byId("unfold").setAttribute("aria-expanded", String(isOpen));
});
addEventListener("hashchange", readHash);
// A card that is stepped to comes to lie below the bar, however many lines that has.
new ResizeObserver(() => {
  const style = document.documentElement.style;
  style.setProperty("--bar", `${byId("bar").offsetHeight}px`);
  style.setProperty("--filters", `${byId("filters").offsetHeight + 14}px`);
}).observe(byId("bar"));
readHash();
tellMarks(null);
