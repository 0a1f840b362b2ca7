// Which samples are shown, in which order, and how the address says so. Nothing here touches the page.

const NONE = "(none)";
const SORTS = {
  confidence: { label: "confidence", descending: false, names: ["least first", "most first"] },
  fraction: { label: "edited fraction", descending: false, names: ["smallest first", "largest first"] },
  weight: { label: "weight w", descending: true, names: ["smallest first", "largest first"] },
  status: { label: "status", descending: false, names: ["ok first", "ok last"] },
  source: { label: "source", descending: false, names: ["a to z", "z to a"] },
  position: { label: "place", descending: false, names: ["in order", "reversed"] },
};
const FACETS = { status: "status", mark: "mark", source: "source", edit_type: "type", recipe: "recipe" };
const RANGES = { confidence: "confidence", fraction: "edited" };

const defaultSort = records.some((record) => record.confidence !== null) ? "confidence" : "position";
const noFilters = () => ({
  text: "",
  facets: Object.fromEntries(Object.keys(FACETS).map((name) => [name, new Set()])),
  ranges: Object.fromEntries(Object.keys(RANGES).map((name) => [name, [null, null]])),
});
const filters = { sort: defaultSort, descending: SORTS[defaultSort].descending, ...noFilters() };

/** What a facet calls this sample. */
function facetOf(record, facet) {
  if (facet === "mark") return book.of(record.key).mark ?? "unmarked";
  return record[facet] ?? NONE;
}

/** Whether a sample passes every filter, or every one but `except`. */
function passes(record, except = null) {
  for (const [facet, chosen] of Object.entries(filters.facets)) {
    if (facet !== except && chosen.size && !chosen.has(facetOf(record, facet))) return false;
  }
  for (const [name, [least, most]] of Object.entries(filters.ranges)) {
    if (name === except || (least === null && most === null)) continue;
    const value = record[name];
    if (value === null || (least !== null && value < least) || (most !== null && value > most)) return false;
  }
  const words = filters.text.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${record.text}\n${record.key}`.toLowerCase();
  return words.every((word) => text.includes(word));
}

/** Positions in the chosen order: samples without a value last, equal ones by place. */
function ordered(positions) {
  const sign = filters.descending ? -1 : 1;
  const value = (position) => {
    const record = records[position];
    if (filters.sort !== "status" || record.status === null) return record[filters.sort];
    const rank = page.statuses.indexOf(record.status);
    return rank < 0 ? page.statuses.length : rank;
  };
  return [...positions].sort((a, b) => {
    const [left, right] = [value(a), value(b)];
    if (left === null || right === null) return (left === null) - (right === null) || a - b;
    const apart = typeof left === "string" ? left.localeCompare(right) : left - right;
    return sign * apart || a - b;
  });
}

function isFiltered() {
  return filters.text !== "" || Object.values(filters.facets).some((chosen) => chosen.size)
    || Object.values(filters.ranges).some(([least, most]) => least !== null || most !== null);
}

/** The view as the fragment of an address, without what is as it is from the start. */
function toHash() {
  const parts = new URLSearchParams();
  if (filters.sort !== defaultSort || filters.descending !== SORTS[defaultSort].descending) {
    parts.set("sort", `${filters.descending ? "-" : ""}${filters.sort}`);
  }
  for (const [facet, chosen] of Object.entries(filters.facets)) for (const value of chosen) parts.append(facet, value);
  for (const [name, [least, most]] of Object.entries(filters.ranges)) {
    if (least !== null || most !== null) parts.set(name, `${least ?? ""}..${most ?? ""}`);
  }
  if (filters.text) parts.set("text", filters.text);
  for (const name of ["slider", "steps"]) if (settings[name]) parts.set(name, "on");
  if (settings.overlay !== "off") parts.set("mask", settings.overlay);
  return parts.toString();
}

/** Takes the view from a fragment; what it does not name, or names wrongly, is as from the start. */
function fromHash(fragment) {
  const parts = new URLSearchParams(fragment);
  const sort = (parts.get("sort") ?? "").replace(/^-/, "");
  const isSort = Object.hasOwn(SORTS, sort) && records.some((record) => record[sort] !== null);
  const fresh = noFilters();
  for (const facet of Object.keys(FACETS)) fresh.facets[facet] = new Set(parts.getAll(facet));
  for (const name of Object.keys(RANGES)) {
    const ends = (parts.get(name) ?? "").split("..");
    if (ends.length === 2) fresh.ranges[name] = ends.map(toNumber);
  }
  Object.assign(filters, fresh, {
    text: parts.get("text") ?? "",
    sort: isSort ? sort : defaultSort,
    descending: isSort ? parts.get("sort").startsWith("-") : SORTS[defaultSort].descending,
  });
  settings.slider = parts.get("slider") === "on";
  settings.steps = parts.get("steps") === "on";
  settings.overlay = OVERLAYS.includes(parts.get("mask")) ? parts.get("mask") : "off";
}

/** A number, or null for an empty or senseless text. */
function toNumber(text) {
  return text.trim() === "" || !Number.isFinite(Number(text)) ? null : Number(text);
}
