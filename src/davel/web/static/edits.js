// Events under correction. Lists of events are never changed, only replaced, so that every step can be undone.

export class Edits {
  constructor(events) {
    this.nextId = 0;
    this.load(events);
  }

  load(events) {
    this.events = events.map((event) => ({ ...event, id: this.nextId++ }));
    this.past = [];
    this.future = [];
    this.saved = this.events;
  }

  get changed() {
    return this.events !== this.saved;
  }

  // These events, as they were when they were sent: what was changed meanwhile is still to be saved.
  markSaved(events) {
    this.saved = events;
  }

  get(id) {
    return this.events.find((event) => event.id === id);
  }

  #put(events) {
    this.past.push(this.events);
    this.future = [];
    this.events = events;
  }

  add(event) {
    const made = { ...event, id: this.nextId++ };
    this.#put([...this.events, made]);
    return made.id;
  }

  remove(id) {
    this.#put(this.events.filter((event) => event.id !== id));
  }

  // A person's word: its score is 1.
  change(id, changes) {
    const before = this.get(id);
    if (Object.entries(changes).every(([key, value]) => before[key] === value)) return;
    this.#put(this.events.map((event) => (event.id === id ? { ...event, ...changes, score: 1 } : event)));
  }

  undo() {
    if (!this.past.length) return false;
    this.future.push(this.events);
    this.events = this.past.pop();
    return true;
  }

  redo() {
    if (!this.future.length) return false;
    this.past.push(this.events);
    this.events = this.future.pop();
    return true;
  }
}
