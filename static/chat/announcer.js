// What a screen reader hears. Token by token would be noise: whole sentences are added to one polite log, a few at a
// time, and the marks of Markdown are left out.
import { plainText } from "./markdown.js";

const PAUSE_MS = 1500;
const KEPT_LINES = 20;
const SENTENCE_END = /(?:[.!?…。！？؟۔]["'”’)\]]*(?=\s)|\n)/g;

export class Announcer {
  #log;

  constructor(log) {
    this.#log = log;
  }

  say(text) {
    if (!text) return;
    const line = document.createElement("p");
    line.dir = "auto";
    line.textContent = text;
    this.#log.append(line);
    while (this.#log.childElementCount > KEPT_LINES) this.#log.firstElementChild.remove();
  }

  /** Follows one reply. */
  follow() {
    return new Narration(this);
  }
}

class Narration {
  #announcer;
  #spoken = 0;
  #inCode = false;
  #timer = 0;
  #text = "";

  constructor(announcer) {
    this.#announcer = announcer;
  }

  update(text) {
    this.#text = text;
    if (!this.#timer) this.#timer = setTimeout(() => this.#speakSentences(), PAUSE_MS);
  }

  restart() {
    clearTimeout(this.#timer);
    this.#timer = this.#spoken = 0;
    this.#inCode = false;
    this.#text = "";
  }

  finish(text, closing) {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#speak(text.slice(this.#spoken));
    this.#spoken = text.length;
    this.#announcer.say(closing);
  }

  #speakSentences() {
    this.#timer = 0;
    const fresh = this.#text.slice(this.#spoken);
    const end = [...fresh.matchAll(SENTENCE_END)].at(-1);
    if (!end) return;
    const length = end.index + end[0].length;
    this.#spoken += length;
    this.#speak(fresh.slice(0, length));
  }

  /** Code is said to be there, not spelled out. */
  #speak(markdown) {
    const heard = [];
    for (const line of markdown.split("\n")) {
      if (/^\s*(```|~~~)/.test(line)) {
        this.#inCode = !this.#inCode;
        if (this.#inCode) heard.push("\n\nCode block.\n\n");
      } else if (!this.#inCode) heard.push(line);
    }
    this.#announcer.say(plainText(heard.join("\n")));
  }
}
