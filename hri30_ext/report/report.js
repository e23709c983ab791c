'use strict';

// ---- tables that sort -------------------------------------------------------------------

const collator = new Intl.Collator('en', { numeric: true });

function sortBy(table, column, header) {
  const descending = header.getAttribute('aria-sort') === 'ascending';
  table.tHead.querySelectorAll('[aria-sort]').forEach((one) => { one.ariaSort = 'none'; });
  header.ariaSort = descending ? 'descending' : 'ascending';
  const key = ({ children: { [column]: cell } }) => cell.dataset.value ?? cell.textContent.trim();
  const order = header.classList.contains('number')
    ? (a, b) => key(a) - key(b) : (a, b) => collator.compare(key(a), key(b));
  const rows = [...table.tBodies[0].rows];
  table.tBodies[0].append(...rows.sort((a, b) => (descending ? -1 : 1) * order(a, b)));
}

for (const table of document.querySelectorAll('table.sortable')) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    header.querySelector('button')?.addEventListener('click', () => sortBy(table, column, header));
  });
}

// ---- the confusion matrix ---------------------------------------------------------------

const STEPS = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1, Home: -Infinity, End: Infinity };

function setUpMatrix(matrix) {
  const find = (name) => document.getElementById(name);
  const { names, ids, counts, totals } = JSON.parse(find('matrix-data').textContent);
  const filter = find('matrix-filter');
  const confusedOnly = find('matrix-confused');
  const tooltip = find('tooltip');
  const headers = [...matrix.tHead.rows[0].cells].slice(1);
  const rows = [...matrix.tBodies[0].rows];
  const cells = rows.map((row) => [...row.cells].slice(1));

  const percent = (i, j) => {
    const rounded = Math.round(100 * counts[i][j] / Math.max(totals[i], 1));
    return counts[i][j] && !rounded ? '<1' : rounded;
  };

  cells.forEach((row, i) => row.forEach((cell, j) => {
    Object.assign(cell.dataset, { i, j });
    cell.ariaLabel = `True: ${names[i]}. Predicted: ${names[j]}. `
      + `${counts[i][j]} of ${totals[i]} clips, ${percent(i, j)} %`;
  }));

  function draw() {
    cells.forEach((row, i) => row.forEach((cell, j) => {
      const count = counts[i][j];
      const strength = count / Math.max(totals[i], 1);
      cell.className = `${i === j ? 'd' : 'e'} ${count ? 'some' : ''} ${strength > .8 ? 'strong' : ''}`;
      cell.style.setProperty('--a', .1 + .9 * strength);
      if (count) cell.textContent = percent(i, j);
    }));
  }

  function choose() {
    const text = filter.value.trim().toLowerCase();
    const matches = names.map((name, k) => name.toLowerCase().includes(text)
      || String(ids[k]) === text);
    const kept = names.map((_, k) => !confusedOnly.checked || names.some((__, other) => (
      other !== k && (counts[k][other] || counts[other][k]))));
    rows.forEach((row, i) => { row.hidden = !(matches[i] && kept[i]); });
    // Beside the chosen classes stand those that they are taken for.
    headers.forEach((header, j) => {
      header.hidden = !(kept[j] && (matches[j]
        || rows.some((row, i) => !row.hidden && counts[i][j])));
      cells.forEach((row) => { row[j].hidden = header.hidden; });
    });
    const shown = rows.filter((row) => !row.hidden).length;
    find('matrix-status').textContent = shown === names.length
      ? `${shown} classes` : `${shown} of ${names.length} classes`;
    makeEntry(cells.flat().find(visible));
    tooltip.hidden = true;
  }

  const visible = (cell) => !cell.hidden && !cell.parentElement.hidden;

  // One cell at a time is in the order of the tab key; arrows move on from there.
  function makeEntry(cell) {
    matrix.querySelectorAll('td[tabindex="0"]').forEach((old) => { old.tabIndex = -1; });
    if (cell) cell.tabIndex = 0;
  }

  function show(event) {
    const cell = event.target.closest('td[data-i]');
    tooltip.hidden = !cell;
    if (cell) tooltip.textContent = cell.ariaLabel.replaceAll('. ', '\n');
    if (cell && event.type === 'focusin') makeEntry(cell);
  }

  function move(event) {
    const step = STEPS[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const { i, j } = event.target.dataset;
    const line = event.key === 'ArrowUp' || event.key === 'ArrowDown'
      ? cells.map((row) => row[j]) : cells[i];
    const shown = line.filter(visible);
    const to = shown.indexOf(event.target) + step;
    shown[Math.max(0, Math.min(shown.length - 1, to))].focus();
  }

  const hide = () => { tooltip.hidden = true; };
  const listen = (target, handlers) => Object.entries(handlers).forEach(
    ([type, handler]) => target.addEventListener(type, handler));
  listen(matrix, {
    pointerover: show, focusin: show, pointerleave: hide, focusout: hide, keydown: move });
  listen(document, { keydown: (event) => { if (event.key === 'Escape') hide(); } });
  listen(find('matrix-controls'), {
    submit: (event) => event.preventDefault(), input: choose });
  find('matrix-controls').hidden = false;
  draw();
  choose();
}

const matrix = document.getElementById('matrix');
if (matrix) setUpMatrix(matrix);
