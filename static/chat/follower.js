// Keeps the newest text in view, unless the reader has scrolled away to read something else.

const NEAR_END_PX = 80;

export class Follower {
  #scroller;
  #jump;
  #following = true;

  constructor(scroller, jump) {
    this.#scroller = scroller;
    this.#jump = jump;
    scroller.addEventListener("scroll", () => this.#look(), { passive: true });
    jump.addEventListener("click", () => this.toEnd());
    // Cards that open, a keyboard that comes up, a window that turns.
    new ResizeObserver(() => this.follow()).observe(scroller);
    this.toEnd();
  }

  toEnd() {
    this.#following = true;
    this.#scroller.scrollTop = this.#scroller.scrollHeight;
    this.#jump.hidden = true;
  }

  follow() {
    if (this.#following) this.#scroller.scrollTop = this.#scroller.scrollHeight;
    else this.#look();
  }

  #look() {
    const { scrollHeight, scrollTop, clientHeight } = this.#scroller;
    this.#following = scrollHeight - scrollTop - clientHeight < NEAR_END_PX;
    this.#jump.hidden = this.#following;
  }
}
