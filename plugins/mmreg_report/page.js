"use strict";
// Sorts tables, filters long ones, and shows the rows of a cell of the confusion matrix. All is there without it.
const text = (row, column) => row.cells[column].textContent.trim();
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      // What is no number, such as a dash, stands below all numbers, whichever way these are sorted.
      const number = (row) => (text(row, column) ? Number(text(row, column).replaceAll(",", "")) : NaN);
      const sign = down ? -1 : 1;
      const rows = [...body.rows].sort((a, b) => {
        const [n, m] = [number(a), number(b)];
        if (isNaN(n) !== isNaN(m)) return isNaN(n) ? 1 : -1;
        return sign * (isNaN(n) ? text(a, column).localeCompare(text(b, column), undefined, { numeric: true }) : n - m);
      });
      body.append(...rows);
    });
  });
  if (body.rows.length < 8) continue;
  const label = document.createElement("label");
  label.className = "filter";
  label.textContent = "Show rows with ";
  const input = document.createElement("input");
  input.type = "search";
  label.append(input);
  table.before(label); // within what scrolls and stands side by side with others
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase();
    for (const row of body.rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
  });
}
const markers = [...document.querySelectorAll("tr span[data-pair]")];
for (const cell of document.querySelectorAll(".confusion td[data-pair]")) {
  const own = markers.filter((marker) => marker.dataset.pair === cell.dataset.pair);
  if (!own.length) continue;
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = cell.textContent;
  button.setAttribute("aria-label", `${cell.title}: show them`);
  cell.replaceChildren(button);
  button.addEventListener("click", () => {
    const body = own[0].closest("tbody");
    for (const row of body.rows) row.hidden = !own.some((marker) => row.contains(marker));
    let all = document.getElementById("all-rows");
    if (!all) {
      all = document.createElement("button");
      all.id = "all-rows";
      all.type = "button";
      body.closest(".wide").before(all);
      all.addEventListener("click", () => {
        for (const row of body.rows) row.hidden = false;
        all.remove();
      });
    }
    all.textContent = `Show all rows (here are ${own.length} of ${cell.textContent.trim()})`;
    all.scrollIntoView();
  });
}
for (const caption of document.querySelectorAll(".confusion:has(button) caption small")) caption.append("; click a count to see its rows");
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open])")]; // what is folded is printed, too
  for (const each of opened) each.open = true;
});
addEventListener("afterprint", () => {
  for (const each of opened) each.open = false;
});
