// Draws the diagrams of the page in the colors of the theme. Without this script, readers see their source.

const diagrams = [...document.querySelectorAll(".highlight-mermaid pre")].map((element, index) => ({
  element,
  id: `diagram-${index}`,
  source: element.textContent,
}));

/** Mermaid's file sets a global variable, and 3.5 MB are too much for pages without a diagram. */
function loadMermaid() {
  const script = document.createElement("script");
  script.src = new URL("mermaid.js", import.meta.url);
  return new Promise((resolve, reject) => {
    script.onload = () => resolve(globalThis.mermaid);
    script.onerror = reject;
    document.head.append(script);
  });
}

async function draw(mermaid) {
  const theme = document.documentElement.dataset.theme === "dark" ? "dark" : "default";
  mermaid.initialize({ startOnLoad: false, theme });
  for (const { element, id, source } of diagrams) {
    const { svg } = await mermaid.render(id, source);
    element.innerHTML = svg;
    // It is a picture without reading order. Its source says the same in words.
    const picture = element.firstElementChild;
    if (!picture.hasAttribute("aria-labelledby")) picture.setAttribute("aria-label", `Diagram: ${source}`);
  }
}

if (diagrams.length) {
  const mermaid = await loadMermaid();
  await draw(mermaid);
  let drawing = Promise.resolve();
  new MutationObserver(() => (drawing = drawing.then(() => draw(mermaid)))).observe(document.documentElement, {
    attributeFilter: ["data-theme"],
  });
}
