// Buttons with data-copy="<id>" copy that element's text.

for (const button of document.querySelectorAll("[data-copy]")) {
  const source = document.getElementById(button.dataset.copy);
  const label = button.querySelector("[data-copy-label]");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(source.textContent.trim());
      label.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(source); // no permission, or no https: leave it ready for Ctrl-C
      label.textContent = "Selected";
    }
  });
}
