// Says how the connection is: a quiet word in the header, and a banner only once it matters.

const PATIENCE_MS = 1200;
const RELIEF_MS = 800;
const WORDS = { connecting: "Connecting…", open: "Online", waiting: "Reconnecting…", offline: "Offline", stopped: "Closed" };

export class ConnectionBanner {
  #chat;
  #banner;
  #text;
  #action;
  #presence;
  #timer = 0;
  #troubleSince = 0;
  #ticker = 0;
  #perform = () => {};

  constructor(chat, socket) {
    this.#chat = chat;
    this.#banner = chat.querySelector("#connection-banner");
    this.#text = chat.querySelector("#connection-text");
    this.#action = chat.querySelector("#connection-action");
    this.#presence = chat.querySelector("#presence-text");
    this.#action.addEventListener("click", () => this.#perform());
    const actions = {
      retry: ["Try now", () => socket.retryNow()],
      reload: ["Reload", () => location.reload()],
      new: ["New conversation", () => chat.querySelector("#new-conversation").click()],
    };
    socket.addEventListener("state", ({ detail }) => {
      const name = detail.state === "stopped" ? detail.action : "retry";
      this.#show(detail, actions[name] ?? null);
    });
  }

  #show({ state, text, retryAt }, action) {
    this.#chat.dataset.connection = state;
    this.#presence.textContent = WORDS[state];
    if (state === "connecting") return; // the banner, if any, stays: "connecting" flickers by with every try
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    if (state === "open") {
      // A server that lets us in only to send us away again has not healed.
      this.#timer = setTimeout(() => this.#hide(), RELIEF_MS);
      return;
    }
    // A blip that heals by itself is not worth a word.
    this.#troubleSince ||= Date.now();
    const delay = state === "stopped" ? 0 : Math.max(0, this.#troubleSince + PATIENCE_MS - Date.now());
    this.#timer = setTimeout(() => this.#reveal(text, retryAt, action), delay);
  }

  #hide() {
    this.#banner.hidden = true;
    this.#troubleSince = 0;
  }

  #reveal(text, retryAt, action) {
    this.#banner.hidden = false;
    this.#text.textContent = text;
    this.#action.hidden = !action;
    if (action) [this.#action.textContent, this.#perform] = action;
    if (!retryAt) return;
    // The countdown is for the eye; the live text stays, or screen readers would count along.
    this.#ticker = setInterval(() => {
      const left = Math.ceil((retryAt - Date.now()) / 1000);
      if (action && left > 3) this.#action.textContent = `Try now (${left})`;
      else if (action) this.#action.textContent = action[0];
    }, 1000);
  }
}
