// What the theme leaves to be done for readers who use a keyboard or a screen reader: whatever scrolls
// can be focused, and no two parts of a page have the same name.
window.addEventListener("load", () => {
  for (const part of document.querySelectorAll(".md-typeset__scrollwrap, pre > code, .highlight-ipynb, .jp-OutputArea-output")) {
    part.tabIndex = 0;
  }
  const seen = {};
  for (const part of document.querySelectorAll("nav, form[role], [role=region]")) {
    const name = part.getAttribute("aria-label") || part.className;
    seen[name] = (seen[name] || 0) + 1;
    if (seen[name] > 1 || !part.hasAttribute("aria-label") && part.matches(".md-code__nav")) {
      part.setAttribute("aria-label", `${part.matches(".md-code__nav") ? "Code" : name} ${seen[name]}`);
    }
  }
});
