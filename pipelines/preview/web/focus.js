// One sample large: a stage with a slider, every picture of the sample in a strip below it.

const HINT = "Drag, or step through with j and k; x flips reference and target; the wheel or two fingers enlarge.";

const focusView = {
  views: [],
  chosen: "compare",
  reference: 0,

  build() {
    this.stage = new Stage({
      zooms: true,
      onzoom: (scale) => { byId("focus-zoom").textContent = `${Math.round(scale * 100)} %`; },
    });
    byId("focus-stage").prepend(this.stage.root);
    byId("focus").addEventListener("close", () => {
      setCurrent(settings.current);
      document.body.append(byId("toast"));
    });
    byId("focus-close").addEventListener("click", () => byId("focus").close());
    for (const button of document.querySelectorAll("#focus [data-go]")) button.addEventListener("click", () => go(Number(button.dataset.go)));
    for (const button of document.querySelectorAll("#focus [data-zoom]")) button.addEventListener("click", () => this.zoom(Number(button.dataset.zoom)));
    for (const overlay of OVERLAYS) byId("focus-overlay").append(make("button", {
      type: "button", "data-overlay": overlay,
      onclick: () => {
        settings.overlay = overlay;
        refreshLook();
      },
    }, overlay === "off" ? "no mask" : overlay));
  },

  open(position, view = null) {
    if (!byId("focus").open) byId("focus").showModal();
    setCurrent(position);
    if (view) this.chosen = view;
    this.show(position);
    byId("focus-stage").focus();
  },

  /** Another sample: the same view of it where it has that, from the whole picture. */
  show(position) {
    const article = articles[position];
    const { pair, sources } = picturesOf(position);
    const images = [...article.querySelectorAll("figure:not(.compare) img[data-place]")];
    const pictures = images.map((image) => ({
      name: image.closest("button").dataset.view,
      place: Number(image.dataset.place),
      grid: image.classList.contains("grid"),
      ratio: Number(image.closest("figure").style.getPropertyValue("--ratio")),
      isStep: image.closest(".small") !== null,
      alt: image.alt,
      caption: image.closest("figure").querySelector("figcaption"),
    }));
    this.views = pair ? [{ name: "compare", place: pair.target.place, pair: true }, ...pictures] : pictures;
    this.reference = 0;
    byId("focus-title").textContent = records[position].text;
    byId("focus-facts").replaceChildren(...[...article.querySelector(".facts").children].map((fact) => fact.cloneNode(true)));
    byId("focus").dataset.status = article.dataset.status;
    byId("focus-count").textContent = `${settings.shown.indexOf(position) + 1} of ${settings.shown.length}`;
    byId("focus-references").replaceChildren();
    if (pair?.references.length > 1) byId("focus-references").append(referenceChips(pair, () => this.reference, (at) => {
      this.reference = at;
      this.refresh();
    }));
    byId("focus-overlay").hidden = pair?.outline === undefined;
    byId("focus-strip").replaceChildren(...this.views.map((view, at) => make("button", {
      type: "button", "data-at": at, class: view.isStep ? "step" : null, "aria-keyshortcuts": at < 9 ? String(at + 1) : null,
      onclick: () => this.choose(at),
    }, make("img", { src: sources[view.place], alt: "", class: view.grid ? "grid" : null }), make("span", {}, at < 9 ? make("kbd", {}, String(at + 1)) : "", ` ${view.name}`))));
    this.stage.slideTo(0.5);
    this.stage.reset();
    this.refresh();
    tellMarks(records[position].key);
  },

  choose(at) {
    if (!this.views[at]) return;
    this.chosen = this.views[at].name;
    this.refresh();
  },

  refresh() {
    const position = settings.current;
    const { pair, sources } = picturesOf(position);
    const at = Math.max(0, this.views.findIndex((view) => view.name === this.chosen));
    const view = this.views[at];
    if (view.pair) showPair(this.stage, position, this.reference);
    else {
      const isOfPair = pair && [pair.target, ...pair.references].some(({ place, ratio }) => place === view.place && isLike(ratio, pair.target.ratio));
      this.stage.show({
        base: { ...view, source: sources[view.place] },
        layer: isOfPair ? layerOf(position) : null,
      });
    }
    byId("focus-caption").replaceChildren(...(view.pair ? [make("span", { class: "hint" }, HINT)] : [...view.caption.children].map((part) => part.cloneNode(true))));
    for (const button of byId("focus-strip").children) button.setAttribute("aria-pressed", String(Number(button.dataset.at) === at));
    byId("focus-strip").children[at].scrollIntoView({ block: "nearest", inline: "nearest" });
    for (const button of byId("focus-overlay").children) button.setAttribute("aria-pressed", String(button.dataset.overlay === settings.overlay));
  },

  zoom(factor) {
    if (factor) this.stage.zoomBy(factor);
    else this.stage.reset();
  },

  /** All reference, then all target: what changed jumps to the eye. */
  flip() {
    if (!this.views[0].pair) return;
    this.choose(0);
    this.stage.slideTo(this.stage.share >= 0.5 ? 0 : 1);
  },

  nextReference() {
    const chips = [...byId("focus-references").querySelectorAll("button")];
    if (chips.length) chips[(this.reference + 1) % chips.length].click();
  },
};
