// The keyboard.

const isFocus = () => byId("focus").open;
const canMark = () => byId("download") !== null;

/** [keys, what they do for a person, what they do, when they mean anything]. */
const KEYS = [
  [["j", "ArrowRight"], "next sample", () => go(1)],
  [["k", "ArrowLeft"], "previous sample", () => go(-1)],
  [["g"], "mark good; again takes it away", () => mark(settings.current, "good"), canMark],
  [["b"], "mark bad", () => mark(settings.current, "bad"), canMark],
  [["u"], "mark unsure", () => mark(settings.current, "unsure"), canMark],
  [["n"], "write a note; Enter ends it", () => noteField()?.focus(), canMark],
  [["z"], "undo the last mark", undoMark, canMark],
  [["f", "Enter"], "sample large, and back", () => (isFocus() ? byId("focus").close() : focusView.open(settings.current))],
  [["c"], "slider or side by side in the list", () => byId("slider")?.click(), () => byId("slider") && !isFocus()],
  [["x"], "large: flip reference and target", () => focusView.flip(), isFocus],
  [["r"], "large: next reference", () => focusView.nextReference(), isFocus],
  [["m"], "mask over the pictures: off, outline, tint", nextOverlay, () => byId("overlay")],
  [["s"], "steps of every mask", () => byId("steps").click(), () => byId("steps") && !isFocus()],
  [["+", "="], "large: zoom in (or the wheel, two fingers)", () => focusView.zoom(1.5), isFocus],
  [["-"], "large: zoom out", () => focusView.zoom(1 / 1.5), isFocus],
  [["0"], "large: whole picture", () => focusView.zoom(0), isFocus],
  [["/"], "search", () => byId("text").focus(), () => !isFocus()],
  [["?"], "this help", () => byId("help").showModal()],
];
const NAMES = { ArrowRight: "→", ArrowLeft: "←" };

function noteField() {
  return (isFocus() ? byId("focus") : articles[settings.current]).querySelector("input.note");
}

function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
  const { target, key } = event;
  settings.tabs = key === "Tab";
  if (target.matches("input:not([type=range], [type=checkbox]), select, textarea")) {
    if ((key === "Enter" || key === "Escape") && !target.matches("select")) {
      event.preventDefault();
      target.blur();
    }
    return;
  }
  if (key === "Escape") for (const menu of document.querySelectorAll("details.menu[open]")) menu.open = false;
  if (byId("help").open) {
    if (key === "?") byId("help").close();
    return;
  }
  if (target.matches("[type=range]") && key.startsWith("Arrow")) return;
  if (key === "Enter" && target.closest("button, summary, a")) return;
  if (isFocus() && /^[1-9]$/.test(key)) focusView.choose(Number(key) - 1);
  const found = KEYS.find(([keys, , , isUsed]) => keys.includes(key) && (!isUsed || isUsed()));
  if (!found || (!settings.shown.length && !["/", "?"].includes(key))) return;
  event.preventDefault();
  found[2]();
}

function buildKeys() {
  document.addEventListener("keydown", press);
  for (const [keys, what, , isUsed] of KEYS) {
    if (isUsed && isUsed !== isFocus && !isUsed()) continue;
    byId("help-keys").append(make("dt", {}, ...keys.map((key) => make("kbd", {}, NAMES[key] ?? key))), make("dd", {}, what));
  }
  byId("help-keys").append(make("dt", {}, make("kbd", {}, "1"), "…", make("kbd", {}, "9")), make("dd", {}, "large: choose a picture"));
  for (const button of document.querySelectorAll(".help-button")) button.addEventListener("click", () => byId("help").showModal());
  byId("help").querySelector("button").addEventListener("click", () => byId("help").close());
}
