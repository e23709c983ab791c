'use strict';

// ---- tables that sort -------------------------------------------------------------------

const collator = new Intl.Collator('en', { numeric: true });

function sortBy(table, column, header) {
  const descending = header.getAttribute('aria-sort') === 'ascending';
  for (const other of header.parentElement.children) {
    if (other.hasAttribute('aria-sort')) other.setAttribute('aria-sort', 'none');
  }
  header.setAttribute('aria-sort', descending ? 'descending' : 'ascending');
  const key = (row) => {
    const cell = row.children[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
  };
  const numeric = header.classList.contains('number');
  const rows = [...table.tBodies[0].rows];
  rows.sort((a, b) => {
    const x = key(a);
    const y = key(b);
    const order = numeric && x - y === x - y ? x - y : collator.compare(x, y);
    return descending ? -order : order;
  });
  table.tBodies[0].append(...rows);
}

for (const table of document.querySelectorAll('table.sortable')) {
  [...table.tHead.rows[0].cells].forEach((header, column) => {
    const button = header.querySelector('button');
    if (button) button.addEventListener('click', () => sortBy(table, column, header));
  });
}

// ---- the confusion matrix ---------------------------------------------------------------

const matrix = document.getElementById('matrix');

function setUpMatrix() {
  const data = JSON.parse(document.getElementById('matrix-data').textContent);
  const names = data.names;
  const size = names.length;
  const controls = document.getElementById('matrix-controls');
  const filter = document.getElementById('matrix-filter');
  const confusedOnly = document.getElementById('matrix-confused');
  const unit = document.getElementById('matrix-unit');
  const status = document.getElementById('matrix-status');
  const tooltip = document.getElementById('tooltip');
  const headers = [...matrix.tHead.rows[0].cells].slice(1);
  const rows = [...matrix.tBodies[0].rows];
  const cells = rows.map((row) => [...row.cells].slice(1));
  const place = new Map();
  let rowShown = names.map(() => true);
  let columnShown = names.map(() => true);

  const share = (i, j) => (data.totals[i] ? data.counts[i][j] / data.totals[i] : 0);
  const percent = (value) => {
    const rounded = Math.round(100 * value);
    return value > 0 && rounded === 0 ? '<1' : String(rounded);
  };
  const describe = (i, j, mark) => {
    const count = data.counts[i][j];
    return [`True: ${names[i]}`, `Predicted: ${names[j]}`,
      `${count} of ${data.totals[i]} clips, ${percent(share(i, j))} %`].join(mark);
  };

  cells.forEach((row, i) => row.forEach((cell, j) => {
    place.set(cell, [i, j]);
    cell.setAttribute('aria-label', describe(i, j, '. '));
  }));

  function draw() {
    const asShare = unit.value === 'share';
    cells.forEach((row, i) => row.forEach((cell, j) => {
      const count = data.counts[i][j];
      const strength = asShare ? share(i, j) : count / Math.max(data.largest, 1);
      cell.className = i === j ? 'd' : 'e';
      if (count) cell.classList.add(`s${Math.max(1, Math.ceil(10 * strength - 1e-9))}`);
      cell.textContent = count ? (asShare ? percent(strength) : count) : '';
    }));
  }

  function choose() {
    const text = filter.value.trim().toLowerCase();
    const matches = names.map((name, k) => !text || name.toLowerCase().includes(text)
      || String(data.ids[k]) === text);
    const confused = names.map((_, k) => names.some((__, other) => other !== k
      && (data.counts[k][other] || data.counts[other][k])));
    const kept = names.map((_, k) => !confusedOnly.checked || confused[k]);
    rowShown = matches.map((match, k) => match && kept[k]);
    // With the classes asked for stand those that they are taken for.
    columnShown = names.map((_, j) => kept[j] && (matches[j]
      || rowShown.some((shown, i) => shown && data.counts[i][j])));
    headers.forEach((header, j) => { header.hidden = !columnShown[j]; });
    rows.forEach((row, i) => {
      row.hidden = !rowShown[i];
      cells[i].forEach((cell, j) => { cell.hidden = !columnShown[j]; });
    });
    const count = rowShown.filter(Boolean).length;
    status.textContent = count === size ? `${size} classes` : `${count} of ${size} classes`;
    const first = cells.flat().find((cell) => visible(...place.get(cell)));
    if (first) makeEntry(first);
    tooltip.hidden = true;
  }

  const visible = (i, j) => rowShown[i] && columnShown[j];

  // One cell at a time is in the order of the tab key; arrows move on from there.
  function makeEntry(cell) {
    const old = matrix.querySelector('td[tabindex="0"]');
    if (old) old.tabIndex = -1;
    cell.tabIndex = 0;
  }

  let described = null;

  function show(cell) {
    described = cell;
    tooltip.textContent = describe(...place.get(cell), '\n');
    tooltip.hidden = false;
    const box = cell.getBoundingClientRect();
    const own = tooltip.getBoundingClientRect();
    const left = Math.min(Math.max(4, box.left + box.width / 2 - own.width / 2),
      document.documentElement.clientWidth - own.width - 4);
    const above = box.top - own.height - 8;
    tooltip.style.left = `${left}px`;
    tooltip.style.top = `${above > 4 ? above : box.bottom + 8}px`;
  }

  const hide = () => { tooltip.hidden = true; };
  const cellOf = (event) => {
    const cell = event.target.closest('td');
    return place.has(cell) ? cell : null;
  };
  matrix.addEventListener('pointerover', (event) => {
    const cell = cellOf(event);
    if (cell) show(cell); else hide();
  });
  matrix.addEventListener('pointerleave', hide);
  matrix.addEventListener('focusin', (event) => {
    const cell = cellOf(event);
    if (cell) { makeEntry(cell); show(cell); }
  });
  matrix.addEventListener('focusout', hide);
  // Also when the box around the matrix scrolls, which does not bubble.
  window.addEventListener('scroll', () => {
    if (!tooltip.hidden) show(described);
  }, { passive: true, capture: true });
  document.addEventListener('keydown', (event) => { if (event.key === 'Escape') hide(); });

  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0],
    Home: [0, -1], End: [0, 1] };
  matrix.addEventListener('keydown', (event) => {
    const cell = cellOf(event);
    const step = steps[event.key];
    if (!cell || !step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    let [i, j] = place.get(cell);
    const toTheEnd = event.key === 'Home' || event.key === 'End';
    let target = null;
    for (i += step[0], j += step[1]; i >= 0 && j >= 0 && i < size && j < size;
      i += step[0], j += step[1]) {
      if (visible(i, j)) {
        target = cells[i][j];
        if (!toTheEnd) break;
      }
    }
    if (target) {
      target.focus({ preventScroll: true });
      target.scrollIntoView({ block: 'nearest', inline: 'nearest' });
      show(target);
    }
  });

  controls.addEventListener('submit', (event) => event.preventDefault());
  filter.addEventListener('input', choose);
  confusedOnly.addEventListener('change', choose);
  unit.addEventListener('change', draw);
  controls.hidden = false;
  choose();
}

if (matrix) setUpMatrix();
