// Messages that the server has not acknowledged yet. They outlive a lost connection and a reload; each has a client_id,
// so that sending one twice makes one message.

const storage = {
  read(key) {
    try {
      return sessionStorage.getItem(key);
    } catch {
      return null; // storage may be forbidden; the page works without it
    }
  },
  write(key, value) {
    try {
      if (value) sessionStorage.setItem(key, value);
      else sessionStorage.removeItem(key);
    } catch {
      /* forbidden or full: only the safety net is lost */
    }
  },
};

export class Outbox {
  #key;
  #items;

  constructor(conversationId) {
    this.#key = `chat:${conversationId}:outbox`;
    let stored = [];
    try {
      stored = JSON.parse(storage.read(this.#key) ?? "[]");
    } catch {
      /* written by another version */
    }
    // What was under way when the page went is not known to have arrived: send it again.
    this.#items = stored.map((item) => ({ ...item, state: item.state === "failed" ? "failed" : "waiting", tries: 1 }));
  }

  get items() {
    return [...this.#items];
  }

  get next() {
    return this.#items.find((item) => item.state === "waiting");
  }

  get sending() {
    return this.#items.find((item) => item.state === "sending");
  }

  find(clientId) {
    return this.#items.find((item) => item.clientId === clientId);
  }

  add(content) {
    const item = { clientId: crypto.randomUUID?.() ?? randomId(), content, state: "waiting", tries: 0 };
    this.#items.push(item);
    this.#save();
    return item;
  }

  mark(item, state) {
    item.state = state;
    this.#save();
  }

  remove(item) {
    this.#items = this.#items.filter((other) => other !== item);
    this.#save();
  }

  #save() {
    const plain = this.#items.map(({ clientId, content, state }) => ({ clientId, content, state }));
    storage.write(this.#key, plain.length ? JSON.stringify(plain) : null);
  }
}

/** randomUUID exists only on secure origins; a tenant on plain http in a private network is not one. */
function randomId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export class Draft {
  #key;

  constructor(conversationId) {
    this.#key = `chat:${conversationId}:draft`;
  }

  load() {
    return storage.read(this.#key) ?? "";
  }

  save(text) {
    storage.write(this.#key, text);
  }
}
