// The message box: grows with its text, sends on Enter, counts near the limit, keeps a draft.

const LIMIT_BYTES = 100_000;
const COUNT_FROM_BYTES = 80_000;
const encoder = new TextEncoder();

export class Composer {
  #form;
  #input;
  #send;
  #stop;
  #counter;
  #draft;
  #draftTimer = 0;
  #busy = false;
  #closed = false;
  #bytes = 0;

  constructor(form, { draft, onSend, onStop }) {
    this.#form = form;
    this.#input = form.querySelector("textarea");
    this.#send = form.querySelector("#send");
    this.#stop = form.querySelector("#stop");
    this.#counter = form.querySelector("#composer-counter");
    this.#draft = draft;
    // Merge with what was typed before this script ran (a slow phone, or the browser's own restore).
    this.#input.value = this.#input.value || draft.load();
    this.#input.addEventListener("input", () => this.#onInput());
    this.#input.addEventListener("keydown", (event) => this.#onKey(event));
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.#submit(onSend);
    });
    this.#stop.addEventListener("click", () => {
      onStop();
      this.focus();
    });
    window.addEventListener("pagehide", () => this.#saveDraft());
    this.#refresh();
  }

  focus() {
    this.#input.focus({ preventScroll: true });
  }

  /** A refused message comes back for editing, in front of what has been typed since. */
  putBack(text) {
    const typed = this.#input.value.trim() ? `\n${this.#input.value}` : "";
    this.#input.value = text + typed;
    this.#onInput();
    this.focus();
  }

  /** While an answer is running the button is Stop; with a text ready to follow, Send is there too. */
  setBusy(busy) {
    this.#busy = busy;
    this.#refresh();
  }

  close() {
    this.#closed = true;
    this.#refresh();
  }

  #onInput() {
    clearTimeout(this.#draftTimer);
    this.#draftTimer = setTimeout(() => this.#saveDraft(), 400);
    this.#refresh();
  }

  #onKey(event) {
    // While an input method composes, Enter picks a candidate (Safari reports only the key code then).
    if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
    event.preventDefault();
    this.#form.requestSubmit();
  }

  #submit(onSend) {
    // A lone half of a surrogate pair is no text, and JSON readers refuse it.
    const text = this.#input.value.toWellFormed?.() ?? this.#input.value;
    this.#refresh();
    if (!text.trim() || this.#bytes > LIMIT_BYTES || this.#closed) return;
    this.#input.value = "";
    this.#onInput();
    this.focus();
    onSend(text);
  }

  #saveDraft() {
    this.#draft.save(this.#input.value);
  }

  #refresh() {
    const text = this.#input.value;
    // Encoding is only worth it where the limit could be near: a UTF-16 unit is at most 3 bytes.
    this.#bytes = text.length * 3 < COUNT_FROM_BYTES ? text.length : encoder.encode(text).length;
    const ready = text.trim() !== "" && this.#bytes <= LIMIT_BYTES && !this.#closed;
    this.#send.disabled = !ready;
    this.#send.hidden = this.#busy && !ready;
    this.#stop.hidden = !this.#busy;
    this.#showCounter();
    this.#autosize();
  }

  #showCounter() {
    const left = LIMIT_BYTES - this.#bytes;
    this.#counter.hidden = this.#bytes < COUNT_FROM_BYTES;
    this.#counter.dataset.over = String(left < 0);
    this.#input.setAttribute("aria-invalid", String(left < 0));
    this.#counter.textContent =
      left < 0
        ? `Too long by ${(-left).toLocaleString("en")} bytes. Please shorten it.`
        : `${left.toLocaleString("en")} bytes left`;
  }

  #autosize() {
    if (CSS.supports("field-sizing", "content")) return;
    this.#input.style.height = "auto";
    this.#input.style.height = `${this.#input.scrollHeight}px`;
  }
}
