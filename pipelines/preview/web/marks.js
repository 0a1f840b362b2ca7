// The marks: kept in the browser, written as JSON Lines, merged from a file.

const MARKS = ["good", "bad", "unsure"];

class MarkBook {
  /** Marks of the page `identity`; `onchange(key)` is called after each change, with null where many changed. */
  constructor(identity, onchange) {
    this.slot = `editmill-marks:${identity}`;
    this.onchange = onchange;
    this.canStore = true;
    this.undoable = [];
    this.read();
    addEventListener("storage", (event) => {
      if (event.key !== this.slot) return;
      this.read();
      this.onchange(null);
    });
  }

  /** {mark, note} of a sample; mark is null where there is none. */
  of(key) {
    return this.entries.get(key) ?? { mark: null, note: "" };
  }

  get count() {
    return [...this.entries.values()].filter((entry) => entry.mark !== null).length;
  }

  /** Sets the mark, or takes it away where it stands already. */
  toggle(key, mark) {
    const before = this.of(key);
    this.set(key, { ...before, mark: before.mark === mark ? null : mark });
  }

  /** A note travels with a mark only, so a sample without one becomes unsure. */
  annotate(key, note) {
    const before = this.of(key);
    if (note !== before.note) this.set(key, { ...before, note, mark: before.mark ?? (note ? "unsure" : null) });
  }

  set(key, entry) {
    this.undoable.push([key, this.entries.get(key)]);
    this.put(key, entry);
    this.isSaved = false;
    this.write();
    this.onchange(key);
  }

  put(key, entry) {
    if (entry === undefined || (entry.mark === null && !entry.note)) this.entries.delete(key);
    else this.entries.set(key, entry);
  }

  /** Takes the last change back and returns its key, or null where there is none. */
  undo() {
    if (!this.undoable.length) return null;
    const [key, entry] = this.undoable.pop();
    this.put(key, entry);
    this.isSaved = false;
    this.write();
    this.onchange(key);
    return key;
  }

  /** The marks as a file: one line a mark, in the order of the page; those of other pages that were loaded come last. */
  toLines() {
    const here = new Map(records.map((record) => [record.key, record]));
    const known = [...here.keys()].filter((key) => this.entries.has(key));
    const foreign = [...this.entries.keys()].filter((key) => !here.has(key));
    const lines = [...known, ...foreign].flatMap((key) => {
      const { mark, note, line } = this.entries.get(key);
      if (mark === null) return [];
      const record = here.get(key);
      const about = record ? { status: record.status, recipe: record.recipe, title: page.title } : line;
      return [JSON.stringify({ ...about, key, mark, ...(note ? { note } : {}) })];
    });
    return lines.map((line) => `${line}\n`).join("");
  }

  /** Merges a file; where both have a mark the file's wins, and of two lines for one key the later. */
  merge(text) {
    const told = { added: 0, changed: 0, same: 0, elsewhere: 0, unreadable: 0 };
    const keys = new Set(records.map((record) => record.key));
    const wasSaved = this.isSaved || this.count === 0;
    for (const row of text.split(/\r?\n/)) {
      if (!row.trim()) continue;
      const line = readLine(row);
      if (line === null) {
        told.unreadable += 1;
        continue;
      }
      const before = this.of(line.key);
      const note = typeof line.note === "string" ? line.note : "";
      if (!keys.has(line.key)) told.elsewhere += 1;
      else if (before.mark === null) told.added += 1;
      else if (before.mark === line.mark && before.note === note) told.same += 1;
      else told.changed += 1;
      this.put(line.key, keys.has(line.key) ? { mark: line.mark, note } : { mark: line.mark, note, line });
    }
    this.undoable = [];
    this.isSaved = wasSaved;
    this.write();
    this.onchange(null);
    return told;
  }

  read() {
    let stored = null;
    try {
      stored = JSON.parse(localStorage.getItem(this.slot));
    } catch {
      this.canStore = false;
    }
    this.entries = new Map(stored?.entries ?? []);
    this.isSaved = stored?.isSaved ?? true;
  }

  write() {
    try {
      localStorage.setItem(this.slot, JSON.stringify({ entries: [...this.entries], isSaved: this.isSaved }));
    } catch {
      this.canStore = false;
    }
  }
}

/** One line of a marks file, or null where it is none. */
function readLine(row) {
  try {
    const line = JSON.parse(row);
    return typeof line?.key === "string" && MARKS.includes(line.mark) ? line : null;
  } catch {
    return null;
  }
}
