// Proposes the slug while the name is typed, until somebody types a slug of their own.

const name = document.getElementById("id_name");
const slug = document.getElementById("id_slug");
let own = slug.value !== "";

const proposed = (text) =>
  text
    .normalize("NFKD")
    .toLowerCase()
    .replace(/[^a-z0-9\s-]/g, "")
    .trim()
    .replace(/[\s-]+/g, "-")
    .slice(0, 40)
    .replace(/^-+|-+$/g, "");

slug.addEventListener("input", () => (own = slug.value !== ""));
name.addEventListener("input", () => {
  if (!own) slug.value = proposed(name.value);
});
