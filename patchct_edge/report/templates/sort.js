for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const value = (row, n) => row.cells[n].dataset.value ?? row.cells[n].textContent.trim();
  const compare = (a, b) => {
    const x = Number(a), y = Number(b);
    if (a !== "" && b !== "" && !Number.isNaN(x) && !Number.isNaN(y)) return x - y;
    return a.localeCompare(b);
  };
  const sort = (head, n) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...table.tBodies[0].rows];
    rows.sort((a, b) => (down ? -1 : 1) * compare(value(a, n), value(b, n)));
    table.tBodies[0].append(...rows);
  };
  heads.forEach((head, n) => {
    head.tabIndex = 0;
    head.addEventListener("click", () => sort(head, n));
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(head, n); });
  });
}
