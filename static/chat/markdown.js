// Markdown → safe DOM, cheap enough to run while a long answer streams in.
// The rules (docs/chat-page.md lists them) are the server's rules too, so that a reload changes nothing.
import { Marked } from "../vendor/marked/marked.esm.js";
import DOMPurify from "../vendor/dompurify/purify.es.js";

const SAFE_LINK = /^(?:https?:\/\/|mailto:)/i;
const ESCAPES = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };
const escapeHtml = (text) => text.replace(/[&<>"']/g, (character) => ESCAPES[character]);

const renderer = {
  // Raw HTML is shown as the text that it is; an answer has no business writing markup.
  html({ text, block }) {
    return block ? `<p>${escapeHtml(text.trim())}</p>\n` : escapeHtml(text);
  },
  // No images: a remote one tells its server who reads what. Its description stays.
  image({ text }) {
    return escapeHtml(text);
  },
  link({ href, title, tokens }) {
    const label = this.parser.parseInline(tokens);
    if (!SAFE_LINK.test(href)) return label;
    const hint = title ? ` title="${escapeHtml(title)}"` : "";
    return `<a href="${escapeHtml(href)}"${hint}>${label}</a>`;
  },
  // The page owns h1 and h2.
  heading({ tokens, depth }) {
    const level = Math.min(depth + 2, 6);
    return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
  },
  checkbox({ raw }) {
    return escapeHtml(raw);
  },
  code({ text }) {
    return `<pre><code>${escapeHtml(text)}\n</code></pre>\n`;
  },
};

// What the server's CommonMark (with tables and strikethrough) does not know stays text here too.
const tokenizer = {
  html: () => undefined,
  tag: () => undefined,
  url: () => undefined,
};

const marked = new Marked({ gfm: true, breaks: false, renderer, tokenizer });

const POLICY = {
  ALLOWED_TAGS: [
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul", "#text",
  ],
  ALLOWED_ATTR: ["href", "rel", "start", "target", "title"],
  ALLOWED_URI_REGEXP: SAFE_LINK,
  ALLOW_ARIA_ATTR: false,
  ALLOW_DATA_ATTR: false,
  RETURN_DOM_FRAGMENT: true,
};

DOMPurify.addHook("afterSanitizeAttributes", (node) => {
  if (node.nodeName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer nofollow");
  } else if (node.nodeName === "PRE" || node.nodeName === "TABLE") {
    node.setAttribute("tabindex", "0"); // what is wide must scroll from the keyboard
  }
});

const sanitize = (html) => DOMPurify.sanitize(html, POLICY);

/**
 * While text streams, a mark whose partner has not arrived yet would show as "**" and jump away a moment later.
 * Closes it for the time being; only the last line can be affected.
 */
export function closeOpenMarks(text) {
  if ((text.match(/^\s*(?:```|~~~)/gm) ?? []).length % 2) return text; // inside a code block everything is literal
  const start = text.lastIndexOf("\n") + 1;
  let line = text.slice(start).replace(/(?<!!)\[([^\]\n]*)(?:\]\([^)\s]*)?$/, "$1");
  const outsideCode = line.replace(/`[^`]*`/g, "");
  if (outsideCode.includes("`")) line = line.endsWith("`") ? line.slice(0, -1) : `${line}\``;
  else if ((outsideCode.match(/\*\*/g) ?? []).length % 2) {
    line = /\*\*\*?$/.test(line) ? line.replace(/\*+$/, "") : `${line.replace(/[\s*]+$/, "")}**`;
  }
  return text.slice(0, start) + line;
}

/** The text that a reader would hear, without the marks. */
export function plainText(markdown) {
  return sanitize(marked.parse(markdown)).textContent.replace(/\s+/g, " ").trim();
}

/** History comes rendered by the server; give it the keyboard stops that streamed text has. */
export function adoptRendered(target) {
  for (const wide of target.querySelectorAll("pre, table")) wide.tabIndex = 0;
}

/**
 * Shows a growing Markdown text inside `target`.
 *
 * Re-parsing 100 kB on every token would freeze a phone, so blocks that cannot change any more (a blank line follows
 * them) are parsed once, and of the rest only the blocks whose HTML changed are touched. Link definitions at the end
 * of a text reach back to its start: `finish` parses the whole once, and replaces only what differs.
 */
export class MarkdownStream {
  #target;
  #blocks = []; // {html, nodes}, in the order of the document
  #settledBlocks = 0;
  #settledOffset = 0;

  constructor(target) {
    this.#target = target;
  }

  update(text) {
    this.#draw(text, false);
  }

  finish(text) {
    this.#settledBlocks = 0;
    this.#settledOffset = 0;
    this.#draw(text, true);
  }

  reset() {
    this.#blocks = [];
    this.#settledBlocks = 0;
    this.#settledOffset = 0;
    this.#target.replaceChildren();
  }

  #draw(text, whole) {
    if (this.#blocks.length === 0) this.#target.replaceChildren(); // what the server had rendered
    const rest = text.slice(this.#settledOffset);
    const tokens = marked.lexer(whole ? rest : closeOpenMarks(rest));
    let index = this.#settledBlocks;
    let offset = this.#settledOffset;
    let settled = [index, offset];
    const lastBlock = tokens.findLastIndex((token) => token.type !== "space");
    tokens.forEach((token, position) => {
      offset += token.raw.length;
      if (token.type !== "space" && token.type !== "def") {
        this.#place(index, marked.parser(Object.assign([token], { links: tokens.links })));
        index += 1;
      }
      const closed = tokens[position + 1]?.type === "space" || token.raw.endsWith("\n\n");
      if (closed && position < lastBlock) settled = [index, offset];
    });
    for (const block of this.#blocks.splice(index)) for (const node of block.nodes) node.remove();
    if (!whole) [this.#settledBlocks, this.#settledOffset] = settled;
  }

  #place(index, html) {
    const old = this.#blocks[index];
    if (old?.html === html) return;
    const fragment = sanitize(html);
    const nodes = [...fragment.childNodes];
    if (old) {
      const anchor = old.nodes[0];
      if (anchor) this.#target.insertBefore(fragment, anchor);
      for (const node of old.nodes) node.remove();
    }
    if (!old || old.nodes.length === 0) this.#target.insertBefore(fragment, this.#blocks[index + 1]?.nodes[0] ?? null);
    this.#blocks[index] = { html, nodes };
  }
}
