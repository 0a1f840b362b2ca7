// The controls of the bar: what to sort by, chips for statuses and marks, a menu a facet and a range.

const refreshers = [];

/** A facet's values over all samples, in their own order. */
function valuesOf(facet) {
  if (facet === "mark") return ["unmarked", ...MARKS];
  const values = [...new Set(records.map((record) => facetOf(record, facet)))];
  if (facet !== "status") return values.sort((a, b) => a.localeCompare(b));
  const rank = (value) => (page.statuses.includes(value) ? page.statuses.indexOf(value) : page.statuses.length);
  return values.sort((a, b) => rank(a) - rank(b));
}

/** How many samples each value has among those that pass the other filters. */
function countsOf(facet) {
  const counts = new Map();
  for (const record of records) {
    if (passes(record, facet)) counts.set(facetOf(record, facet), (counts.get(facetOf(record, facet)) ?? 0) + 1);
  }
  return counts;
}

function choose(facet, value) {
  const chosen = filters.facets[facet];
  if (!chosen.delete(value)) chosen.add(value);
  refresh();
}

/** One toggle a value, with its count: for facets of few values. */
function buildChips(place, facet) {
  const buttons = valuesOf(facet).map((value) => {
    const count = make("span", { class: "number" });
    const button = make("button", { type: "button", "data-value": value, onclick: () => choose(facet, value) });
    if (facet === "status") button.dataset.status = value;
    button.append(make("span", { class: "dot" }), value.replaceAll("_", " "), " ", count);
    return { value, button, count };
  });
  place.append(...buttons.map(({ button }) => button));
  refreshers.push(() => {
    const counts = countsOf(facet);
    for (const { value, button, count } of buttons) {
      count.textContent = String(counts.get(value) ?? 0);
      button.setAttribute("aria-pressed", String(filters.facets[facet].has(value)));
    }
  });
}

/** A menu that unfolds; returns its summary's text holder and its sheet. */
function buildMenu(name, label) {
  const state = make("span");
  const sheet = make("div", { class: "sheet" });
  const menu = make("details", { class: "menu", "data-menu": name }, make("summary", {}, label, state), sheet);
  menu.addEventListener("toggle", () => {
    if (!menu.open) return;
    for (const other of document.querySelectorAll("details.menu[open]")) if (other !== menu) other.open = false;
    menu.classList.toggle("from-right", menu.getBoundingClientRect().left > innerWidth - 300);
  });
  byId("menus").append(menu);
  return { menu, state, sheet };
}

/** Check boxes, one a value, with counts: for facets of many values. */
function buildFacetMenu(facet) {
  const values = valuesOf(facet);
  const { menu, state, sheet } = buildMenu(facet, FACETS[facet]);
  const rows = values.map((value) => {
    const box = make("input", { type: "checkbox", value, onchange: () => choose(facet, value) });
    const count = make("span", { class: "number" });
    sheet.append(make("label", { class: "check" }, box, make("span", { class: "value" }, value), count));
    return { value, box, count };
  });
  refreshers.push(() => {
    const counts = countsOf(facet);
    const chosen = filters.facets[facet];
    for (const { value, box, count } of rows) {
      box.checked = chosen.has(value);
      count.textContent = String(counts.get(value) ?? 0);
    }
    state.textContent = chosen.size === 0 ? "" : chosen.size === 1 ? `: ${[...chosen][0]}` : `: ${chosen.size} of ${values.length}`;
    menu.classList.toggle("active", chosen.size > 0);
  });
}

const BARS = 24;

/** Least and most of a value, under a histogram of all samples; shares are typed in per cent. */
function buildRangeMenu(name) {
  const { menu, state, sheet } = buildMenu(name, RANGES[name]);
  const unit = name === "fraction" ? 100 : 1;
  const values = records.map((record) => record[name]).filter((value) => value !== null);
  const bars = Array.from({ length: BARS }, () => 0);
  for (const value of values) bars[Math.min(BARS - 1, Math.max(0, Math.floor(value * BARS)))] += 1;
  const highest = Math.max(...bars);
  const pillars = bars.map((count) => make("i", { style: `height: ${count ? 6 + (94 * count) / highest : 0}%` }));
  const field = (end) => make("input", {
    type: "number", min: 0, max: unit, step: "any", inputmode: "decimal",
    placeholder: end ? String(unit) : "0", "aria-label": `${end ? "greatest" : "least"} ${SORTS[name].label}${unit === 100 ? " in per cent" : ""}`,
    oninput: (event) => {
      const typed = toNumber(event.target.value);
      filters.ranges[name][end] = typed === null ? null : Number((typed / unit).toPrecision(12));
      refresh();
    },
  });
  const fields = [field(0), field(1)];
  sheet.append(
    make("div", { class: "histogram", "aria-hidden": "true" }, ...pillars),
    make("div", { class: "ends", "aria-hidden": "true" }, make("span", {}, "0"), make("span", {}, unit === 100 ? "100 %" : "1")),
    make("div", { class: "range" }, "from ", fields[0], " to ", fields[1], unit === 100 ? " %" : ""),
  );
  refreshers.push(() => {
    const range = filters.ranges[name];
    const shown = range.map((value) => (value === null ? "" : String(Number((value * unit).toPrecision(6)))));
    fields.forEach((input, end) => {
      if (document.activeElement !== input) input.value = shown[end];
    });
    pillars.forEach((pillar, bar) => {
      const isOut = (range[0] !== null && (bar + 1) / BARS <= range[0]) || (range[1] !== null && bar / BARS > range[1]);
      pillar.classList.toggle("out", isOut);
    });
    const isSet = range.some((value) => value !== null);
    state.textContent = isSet ? `: ${shown[0] || 0} – ${shown[1] || unit}${unit === 100 ? " %" : ""}` : "";
    menu.classList.toggle("active", isSet);
  });
}

function buildBar() {
  const has = (name) => records.some((record) => record[name] !== null);
  for (const [name, { label }] of Object.entries(SORTS)) {
    if (has(name)) byId("sort").append(make("option", { value: name }, `by ${label}`));
  }
  byId("sort").addEventListener("change", (event) => {
    Object.assign(filters, { sort: event.target.value, descending: SORTS[event.target.value].descending });
    refresh();
  });
  byId("direction").addEventListener("click", () => {
    filters.descending = !filters.descending;
    refresh();
  });
  byId("text").addEventListener("input", (event) => {
    filters.text = event.target.value;
    refresh();
  });
  refreshers.push(() => {
    byId("sort").value = filters.sort;
    const name = SORTS[filters.sort].names[Number(filters.descending)];
    byId("direction").textContent = `${filters.descending ? "↓" : "↑"} ${name}`;
    byId("direction").setAttribute("aria-label", `order: ${name}; turn it round`);
    if (document.activeElement !== byId("text")) byId("text").value = filters.text;
  });
  if (has("status")) buildChips(byId("statuses"), "status");
  if (byId("marks")) buildChips(byId("marks"), "mark");
  for (const facet of ["source", "edit_type", "recipe"]) if (valuesOf(facet).length > 1) buildFacetMenu(facet);
  for (const name of Object.keys(RANGES)) if (has(name)) buildRangeMenu(name);
  document.addEventListener("pointerdown", (event) => {
    for (const menu of document.querySelectorAll("details.menu[open]")) if (!menu.contains(event.target)) menu.open = false;
  });
}
