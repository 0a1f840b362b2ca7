// The list of cards: pictures that come when a card is near, the slider in a card, the mask over it, the current one.

const stages = new Map();
const loaded = new Set();

const nearby = new IntersectionObserver((entries) => {
  for (const entry of entries) if (entry.isIntersecting) load(Number(entry.target.dataset.position));
}, { rootMargin: "900px 0px" });

/** Gives a card its pictures; those of its steps only once they are unfolded. */
function load(position) {
  const article = articles[position];
  const { sources } = picturesOf(position);
  if (!loaded.has(position)) {
    loaded.add(position);
    for (const image of article.querySelectorAll(".panels:not(.small) img[data-place]")) put(image, sources[image.dataset.place]);
  }
  if (article.querySelector("details.steps")?.open) {
    for (const image of article.querySelectorAll(".small img[data-place]")) put(image, sources[image.dataset.place]);
  }
  dress(position);
}

/** The slider and the layers of a card as the settings have them. */
function dress(position) {
  if (!loaded.has(position)) return;
  const { pair } = picturesOf(position);
  if (!pair) return;
  if (settings.slider) {
    if (!stages.has(position)) stages.set(position, addSlider(position));
    showPair(stages.get(position), position, stages.get(position).reference);
  }
  for (const figure of articles[position].querySelectorAll("figure.side")) {
    const image = figure.querySelector("img[data-place]");
    const isPlain = pair.target.place === Number(image.dataset.place)
      || pair.references.some(({ place, ratio }) => place === Number(image.dataset.place) && isLike(ratio, pair.target.ratio));
    let layer = figure.querySelector("img.layer");
    const source = layerOf(position);
    if (!layer && isPlain && source) {
      layer = make("img", { class: "layer", alt: "" });
      image.after(layer);
    }
    if (!layer) continue;
    layer.hidden = source === null;
    if (source) put(layer, source);
  }
}

/** The mask as the settings want it over the pictures of a card, or null. */
function layerOf(position) {
  const { pair, sources } = picturesOf(position);
  return sources[pair?.[settings.overlay]] ?? null;
}

function isLike(ratio, other) {
  return Math.abs(ratio / other - 1) < 0.02;
}

function addSlider(position) {
  const stage = new Stage();
  stage.reference = 0;
  const { pair } = picturesOf(position);
  const caption = make("figcaption", {}, make("strong", {}, "reference ⇄ target"));
  if (pair.references.length > 1) caption.append(referenceChips(pair, () => stage.reference, (reference) => {
    stage.reference = reference;
    showPair(stage, position, reference);
  }));
  articles[position].querySelector(".panels").prepend(make("figure", { class: "compare", style: `--ratio: ${pair.target.ratio}` }, stage.root, caption));
  return stage;
}

/** Buttons 1, 2, ... that choose one of several references. */
function referenceChips(pair, chosen, choose) {
  const chips = make("span", { class: "chips", role: "group", "aria-label": "reference" });
  const tell = () => [...chips.children].forEach((chip, at) => chip.setAttribute("aria-pressed", String(at === chosen())));
  pair.references.forEach((_, at) => chips.append(make("button", {
    type: "button", "aria-label": `reference ${at + 1}`,
    onclick: () => {
      choose(at);
      tell();
    },
  }, pair.references.length > 6 ? String(at + 1) : `ref ${at + 1}`)));
  tell();
  return chips;
}

/** Reference number `reference` and target of a card on a stage, under the slider. */
function showPair(stage, position, reference) {
  const { pair, sources } = picturesOf(position);
  const before = pair.references[reference];
  stage.show({
    base: { source: sources[pair.target.place], ratio: pair.target.ratio, alt: `target under reference: ${records[position].text}` },
    before: { source: sources[before.place], ratio: before.ratio },
    layer: layerOf(position),
    names: [pair.references.length > 1 ? `reference ${reference + 1}` : "reference", "target"],
  });
}

/** Makes the card at this position the current one, and brings it into sight where asked for. */
function setCurrent(position, scroll = true) {
  articles[settings.current].removeAttribute("aria-current");
  settings.current = position;
  const article = articles[position];
  article.setAttribute("aria-current", "true");
  tellCount();
  writeHash();
  if (!scroll) return;
  load(position);
  // At once: a smooth scroll lags behind one who steps quickly.
  article.scrollIntoView({ block: "start", behavior: "instant" });
  if (!document.querySelector("dialog[open]")) article.focus({ preventScroll: true });
}

/** The next or previous card of the view; stays, and says so, at the ends. */
function go(by) {
  const at = settings.shown.indexOf(settings.current);
  const next = settings.shown[at < 0 ? 0 : at + by];
  if (next === undefined) {
    if (settings.shown.length) say(by > 0 ? "This is the last one shown." : "This is the first one shown.");
    return false;
  }
  setCurrent(next);
  if (byId("focus").open) focusView.show(next);
  return true;
}

function tellCount() {
  const total = records.length;
  const at = settings.shown.indexOf(settings.current) + 1;
  const place = at ? ` · at ${at}` : "";
  byId("count").textContent = settings.shown.length === total ? `${plural(total, "sample")}${place}` : `${settings.shown.length} of ${plural(total, "sample")}${place}`;
}

/** Slider, mask and steps as the settings have them, on every card. */
function refreshLook() {
  document.body.classList.toggle("sliders", settings.slider);
  byId("slider")?.setAttribute("aria-pressed", String(settings.slider));
  byId("steps")?.setAttribute("aria-pressed", String(settings.steps));
  byId("overlay")?.querySelector("b").replaceChildren(settings.overlay);
  byId("overlay")?.classList.toggle("active", settings.overlay !== "off");
  for (const position of loaded) dress(position);
  if (byId("focus").open) focusView.refresh();
  writeHash();
}

function unfoldSteps(isOpen) {
  settings.steps = isOpen;
  for (const details of document.querySelectorAll("details.steps")) details.open = isOpen;
  refreshLook();
}

function nextOverlay() {
  settings.overlay = OVERLAYS[(OVERLAYS.indexOf(settings.overlay) + 1) % OVERLAYS.length];
  refreshLook();
}
