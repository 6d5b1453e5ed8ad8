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

// With the background that Mermaid's dark theme gives to labels, the contrast is too low.
const DARK = { theme: "dark", themeVariables: { edgeLabelBackground: "#14181e" } };

async function draw(mermaid) {
  const dark = document.documentElement.dataset.theme === "dark";
  mermaid.initialize({ startOnLoad: false, ...(dark ? DARK : { theme: "default" }) });
  for (const { element, id, source } of diagrams) {
    const { svg } = await mermaid.render(id, source);
    element.innerHTML = svg;
    const picture = element.firstElementChild;
    // Shrunk to a phone, the text of a wide diagram would be too small. Readers scroll sideways instead.
    picture.style.minWidth = `min(${picture.style.maxWidth}, 36rem)`;
    // A picture has no reading order. Its source says the same in words.
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
