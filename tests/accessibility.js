(() => {
  const findings = [];
  const visible = (e) => e.getClientRects().length > 0;
  const name = (e) => (e.getAttribute("aria-label") || (e.getAttribute("aria-labelledby") && document.getElementById(e.getAttribute("aria-labelledby"))?.textContent) || e.labels?.[0]?.textContent || e.textContent || "").trim();
  if (!document.documentElement.lang) findings.push("no language");
  if (!document.title) findings.push("no title");
  if (document.querySelectorAll("h1").length !== 1 || document.querySelectorAll("main").length !== 1) findings.push("not one h1 and one main");
  let last = 0;
  for (const h of document.querySelectorAll("h1,h2,h3,h4")) { const l = +h.tagName[1]; if (l > last + 1) findings.push("heading skips: " + h.textContent); last = l; }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  if (new Set(ids).size !== ids.length) findings.push("an id stands twice");
  for (const e of document.querySelectorAll("a,button,input,[role=img],[role=region],section,nav")) if (!name(e)) findings.push("no name: " + e.outerHTML.slice(0, 80));
  for (const e of document.querySelectorAll("[aria-labelledby]")) if (!document.getElementById(e.getAttribute("aria-labelledby"))) findings.push("names a missing id");
  for (const t of document.querySelectorAll("table")) if (!t.caption || [...t.querySelectorAll("th")].some((h) => !h.scope)) findings.push("table without caption or scope");
  for (const e of document.querySelectorAll("body *")) {
    const style = getComputedStyle(e);
    if (/(auto|scroll)/.test(style.overflowX + style.overflowY) && (e.scrollWidth > e.clientWidth || e.scrollHeight > e.clientHeight) && e.tabIndex < 0) findings.push("scrolls but takes no focus: " + e.className);
  }
  const rgb = (c) => { const m = c.match(/[\d.]+/g).map(Number); return m.length > 3 && m[3] === 0 ? null : m.slice(0, 3); };
  const light = (c) => { const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c) return c; } return [255, 255, 255]; };
  const seen = new Set();
  for (const e of document.querySelectorAll("body *:not(svg *):not(script)")) {
    if (!visible(e) || ![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim())) continue;
    const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) seen.add(`contrast ${ratio.toFixed(2)}: ${e.tagName} ${e.className}`);
  }
  return [...findings, ...seen];
})()
