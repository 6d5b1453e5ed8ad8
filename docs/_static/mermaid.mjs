// The file of Mermaid sets a global variable. sphinxcontrib-mermaid imports a module.

import "./mermaid.js";

export default globalThis.mermaid;
