// A picture, or two under a slider, with the mask over them; to be enlarged and moved where that is asked for.

const OVERLAYS = ["off", "outline", "tint"];
const LARGEST = 24;
const NEAR = 28;

class Stage {
  /** `zooms`: whether the wheel, two fingers and keys enlarge; `onzoom(scale)` is then called after each change. */
  constructor({ zooms = false, onzoom = () => {} } = {}) {
    this.zooms = zooms;
    this.onzoom = onzoom;
    this.share = 0.5;
    this.pointers = new Map();
    this.base = make("img", { class: "base", alt: "", draggable: "false" });
    this.before = make("img", { class: "before", alt: "", draggable: "false" });
    this.layer = make("img", { class: "layer", alt: "", draggable: "false" });
    this.world = make("div", { class: "world" }, this.base, this.before, this.layer);
    this.range = make("input", { type: "range", min: 0, max: 100, step: 1, oninput: () => this.slideTo(this.range.value / 100) });
    this.handle = make("div", { class: "handle", "aria-hidden": "true" }, make("span", {}, "‹ ›"));
    this.tags = [make("span", { class: "tag left" }), make("span", { class: "tag right" })];
    this.root = make("div", { class: zooms ? "stage zooms" : "stage" }, this.world, this.range, this.handle, ...this.tags);
    this.reset();
    new ResizeObserver(() => this.layout()).observe(this.root);
    for (const type of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
      this.root.addEventListener(type, (event) => this.point(event));
    }
    // A press would else move the focus from the slider, where arrow keys go on, to the card around it.
    this.root.addEventListener("mousedown", (event) => event.preventDefault());
    if (zooms) {
      this.root.addEventListener("wheel", (event) => {
        event.preventDefault();
        this.zoomBy(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), this.placeOf(event));
      }, { passive: false });
      this.root.addEventListener("dblclick", (event) => {
        if (this.scale > 1.01) this.reset();
        else this.zoomBy(3, this.placeOf(event));
      });
    }
  }

  /**
   * Shows `base` = {source, ratio, grid?, alt}, alone or under a slider with `before` = {source, ratio} on its left;
   * `layer` is the source of a picture over both, or null; `names` are those of left and right.
   */
  show({ base, before = null, layer = null, names = ["", ""] }) {
    this.ratio = base.ratio;
    put(this.base, base.source);
    this.base.alt = base.alt;
    this.root.classList.toggle("grid", Boolean(base.grid));
    this.root.classList.toggle("slides", before !== null);
    this.before.hidden = before === null;
    this.range.hidden = before === null;
    if (before) {
      put(this.before, before.source);
      // A reference that was only resized is drawn as large as the target; one of another shape is not bent.
      this.before.classList.toggle("contain", Math.abs(before.ratio / base.ratio - 1) > 0.02);
    }
    this.layer.hidden = layer === null;
    if (layer) put(this.layer, layer);
    this.names = names;
    this.tags.forEach((tag, end) => { tag.textContent = names[end]; });
    this.root.style.setProperty("--ratio", String(base.ratio));
    this.range.setAttribute("aria-label", `slider between ${names[0]} and ${names[1]}`);
    this.layout();
  }

  slideTo(share) {
    this.share = Math.min(1, Math.max(0, share));
    this.layout();
  }

  reset() {
    Object.assign(this, { scale: 1, x: 0, y: 0 });
    this.layout();
    this.onzoom(this.scale);
  }

  /** Enlarges by `factor` about a point of the stage, in pixels from its upper left corner; its middle where not given. */
  zoomBy(factor, [left, top] = [this.root.clientWidth / 2, this.root.clientHeight / 2]) {
    const scale = Math.min(LARGEST, Math.max(1, this.scale * factor));
    const grown = scale / this.scale;
    const box = this.box();
    this.x += (left - box.left) * (1 - grown) + (box.width * (grown - 1)) / 2;
    this.y += (top - box.top) * (1 - grown) + (box.height * (grown - 1)) / 2;
    this.scale = scale;
    this.layout();
    this.onzoom(scale);
  }

  /** Where the picture lies in the stage; `x` and `y` are how far its middle is from the stage's. */
  box() {
    const [across, down] = [this.root.clientWidth, this.root.clientHeight];
    const width = Math.min(across, down * this.ratio) * this.scale;
    const height = width / this.ratio;
    const bound = (value, room) => Math.min(Math.max(0, room), Math.max(-Math.max(0, room), value));
    this.x = bound(this.x, (width - across) / 2);
    this.y = bound(this.y, (height - down) / 2);
    return { left: (across - width) / 2 + this.x, top: (down - height) / 2 + this.y, width, height };
  }

  layout() {
    if (!this.ratio || !this.root.clientWidth) return;
    const box = this.box();
    for (const [side, value] of Object.entries(box)) this.world.style[side] = `${value}px`;
    const [least, most] = this.reach(box);
    const place = least + this.share * (most - least);
    const shown = Math.min(1, Math.max(0, (place - box.left) / box.width));
    this.before.style.clipPath = `inset(0 ${(100 * (1 - shown)).toFixed(3)}% 0 0)`;
    this.handle.style.left = `${place}px`;
    const foot = Math.min(this.root.clientHeight, box.top + box.height);
    this.handle.style.top = `${Math.max(0, box.top)}px`;
    this.handle.style.height = `${foot - Math.max(0, box.top)}px`;
    this.tags.forEach((tag, end) => {
      tag.style.top = `${Math.max(0, box.top) + 8}px`;
      tag.style[end ? "right" : "left"] = `${Math.max(0, end ? this.root.clientWidth - most : least) + 8}px`;
      tag.style.opacity = (end ? this.share > 0.86 : this.share < 0.14) ? "0" : "1";
    });
    this.range.value = String(Math.round(this.share * 100));
    this.range.setAttribute("aria-valuetext", `${Math.round(this.share * 100)} % ${this.names[0]}`);
  }

  /** Left and right end of what is seen of the picture: the slider's way. */
  reach(box = this.box()) {
    return [Math.max(0, box.left), Math.min(this.root.clientWidth, box.left + box.width)];
  }

  placeOf(event) {
    const frame = this.root.getBoundingClientRect();
    return [event.clientX - frame.left, event.clientY - frame.top];
  }

  point(event) {
    const place = this.placeOf(event);
    if (event.type === "pointerdown") {
      if (event.button !== 0) return;
      this.root.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, place);
      const isSlider = this.root.classList.contains("slides");
      const isNear = Math.abs(place[0] - this.handle.offsetLeft) < NEAR;
      this.drags = isSlider && (this.scale <= 1.01 || isNear) ? "slider" : "picture";
      if (isSlider) this.range.focus({ preventScroll: true });
      if (this.drags === "slider" && !this.zooms) this.follow(place);
    } else if (event.type === "pointermove") {
      const last = this.pointers.get(event.pointerId);
      if (!last) return;
      const others = [...this.pointers].filter(([id]) => id !== event.pointerId);
      this.pointers.set(event.pointerId, place);
      if (others.length && this.zooms) this.pinch(last, place, others[0][1]);
      else if (this.drags === "slider") this.follow(place);
      else if (this.zooms) this.move(place[0] - last[0], place[1] - last[1]);
    } else {
      this.pointers.delete(event.pointerId);
    }
  }

  follow([left]) {
    const [least, most] = this.reach();
    this.slideTo((left - least) / (most - least));
  }

  move(across, down) {
    this.x += across;
    this.y += down;
    this.layout();
  }

  pinch(last, place, other) {
    const distance = ([left, top]) => Math.hypot(left - other[0], top - other[1]);
    this.zoomBy(distance(place) / Math.max(1, distance(last)), [(place[0] + other[0]) / 2, (place[1] + other[1]) / 2]);
    this.move((place[0] - last[0]) / 2, (place[1] - last[1]) / 2);
  }
}

/** Sets a picture where it is another: setting the same again decodes it again. */
function put(image, source) {
  if (image.getAttribute("src") !== source) image.src = source;
}
