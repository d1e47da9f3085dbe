"use strict";
// Long tables can be sorted by a column and filtered by words; without scripts they are as they are.
for (const table of document.querySelectorAll("table.cells, table.runs")) {
  const body = table.tBodies[0];
  const value = (row, column) => row.cells[column].firstChild ? row.cells[column].firstChild.textContent.trim() : "";
  const number = (text) => text === "—" || text === "" ? NaN : Number(text.replace(/,/g, "").replace(/ (s|GiB)$/, ""));
  const compare = (a, b) => {
    const x = number(a), y = number(b);
    if (!Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    if (Number.isNaN(x) !== Number.isNaN(y)) return Number.isNaN(x) ? 1 : -1;
    return a.localeCompare(b);
  };
  Array.from(table.tHead.rows[0].cells).forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const rows = Array.from(body.rows).sort((a, b) => compare(value(a, column), value(b, column)));
      body.append(...(up ? rows : rows.reverse()));
    });
  });
  const label = document.createElement("label");
  label.className = "filter";
  const input = document.createElement("input");
  input.type = "search";
  const matches = document.createElement("output");
  const first = Array.from(body.rows[0].cells, (_, column) => value(body.rows[0], column)).find((text) => Number.isNaN(number(text)));
  input.placeholder = `e.g. ${first}`;
  label.append("Filter rows ", input, " ", matches);
  table.parentElement.before(label);
  input.addEventListener("input", () => {
    // A word stands for every word that starts with it: a16 is meant as alpha 16, not as some letters of a key.
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean).map((word) => RegExp(`(?<![a-z0-9])${word.replace(/\W/g, "\\$&")}`));
    let shown = 0;
    for (const row of body.rows) {
      const text = Array.from(row.cells).flatMap((cell) => Array.from(cell.childNodes, (part) => part.textContent)).join(" ").toLowerCase();
      row.hidden = !words.every((word) => word.test(text));
      shown += row.hidden ? 0 : 1;
    }
    matches.textContent = words.length ? `${shown} of ${body.rows.length}` : "";
  });
}
