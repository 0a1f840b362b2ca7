// Setting marks and notes on cards and in the focus view, downloading and loading them.

/** Position of the sample that a control belongs to. */
function positionOf(control) {
  return Number(control.closest("article")?.dataset.position ?? settings.current);
}

/** Marks a sample (again takes the mark away), and goes on to the next where that is switched on. */
function mark(position, kind) {
  const { key } = records[position];
  const next = settings.shown[settings.shown.indexOf(position) + 1];
  book.toggle(key, kind);
  const isMarked = book.of(key).mark !== null;
  if (!isMarked) say(book.of(key).note ? "Mark taken away; its note stays here, but is not downloaded." : "Mark taken away.");
  if (isMarked && byId("advance").checked) {
    if (next === undefined) say(`Marked ${kind}. That was the last one shown.`);
    else {
      setCurrent(next);
      if (byId("focus").open) focusView.show(next);
    }
  }
  if (filters.facets.mark.size) refresh();
}

function undoMark() {
  const key = book.undo();
  const record = records.find((item) => item.key === key);
  if (!record) {
    say("Nothing to undo.");
    return;
  }
  refresh();
  setCurrent(record.position);
  if (byId("focus").open) focusView.show(record.position);
  say("Last mark undone.");
}

/** The mark and note of one sample, wherever it is shown; of all where `key` is null. */
function tellMarks(key) {
  if (!byId("download")) return;
  const changed = key === null ? records : records.filter((record) => record.key === key);
  for (const record of changed) tellMark(articles[record.position], record.key);
  if (byId("focus").open) tellMark(byId("focus"), records[settings.current].key);
  byId("download").textContent = book.count ? `download ${plural(book.count, "mark")}` : "download marks";
  byId("download").disabled = book.count === 0;
  byId("download").classList.toggle("unsaved", !book.isSaved);
  for (const refresher of refreshers) refresher();
}

function tellMark(place, key) {
  const entry = book.of(key);
  if (entry.mark) place.dataset.marked = entry.mark;
  else delete place.dataset.marked;
  for (const button of place.querySelectorAll("[data-mark]")) {
    button.setAttribute("aria-pressed", String(button.dataset.mark === entry.mark));
  }
  const note = place.querySelector("input.note");
  if (note && document.activeElement !== note) note.value = entry.note;
}

function download() {
  const file = new Blob([book.toLines()], { type: "application/jsonl" });
  const link = make("a", { href: URL.createObjectURL(file), download: "marks.jsonl" });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  book.isSaved = true;
  book.write();
  tellMarks(null);
  say(`${plural(book.count, "mark")} written to marks.jsonl. editmill masks --review marks.jsonl takes them.`);
}

async function loadFile(file) {
  const told = book.merge(await file.text());
  refresh();
  const parts = [
    [told.added, "new"], [told.changed, "changed"], [told.same, "the same"],
    [told.elsewhere, "of samples not on this page"], [told.unreadable, "not readable"],
  ].filter(([count]) => count);
  say(parts.length ? `${file.name}: ${parts.map(([count, what]) => `${count} ${what}`).join(", ")}.` : `${file.name} holds no marks.`);
}

function buildMarking() {
  if (!byId("download")) return;
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-mark]");
    if (button) mark(positionOf(button), button.dataset.mark);
  });
  document.addEventListener("change", (event) => {
    if (!event.target.matches("input.note")) return;
    const { key } = records[positionOf(event.target)];
    const wasUnmarked = book.of(key).mark === null;
    book.annotate(key, event.target.value.trim());
    if (wasUnmarked && book.of(key).mark) say("Marked unsure: a note goes with a mark.");
  });
  byId("download").addEventListener("click", download);
  byId("upload").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", async (event) => {
    for (const file of event.target.files) await loadFile(file);
    event.target.value = "";
  });
  addEventListener("beforeunload", (event) => {
    if (!book.isSaved && book.count) event.preventDefault();
  });
  if (!book.canStore) say("This browser keeps nothing for this page: download your marks before you leave.");
}
