"use strict";
// To a browser that runs scripts, what a `noscript` holds is text: documents are parsed and
// laid out only when they are opened.
(() => {
  const FIRST = 25; // rows of the list that are shown at once
  const CORRECT = "k0";
  const $ = (id) => document.getElementById(id);
  const pairs = JSON.parse($("pairs").textContent);
  const docs = [...document.querySelectorAll(".doc")];
  const filter = $("filter");
  const labelBoxes = [...filter.querySelectorAll("[name=label]")];
  let showAll = false;
  let cell = null; // of the confusion matrix, if only its examples are shown

  const chosen = (name) =>
    new Set([...filter.querySelectorAll(`[name=${name}]:checked`)].map((box) => box.value));

  function makeTest() {
    const kinds = chosen("kind");
    if (cell) {
      const { gold: trueLabel, found: foundLabel } = cell.dataset;
      return ([kind, gold, found]) =>
        kinds.has(kind) && gold === trueLabel && found === foundLabel;
    }
    const labels = chosen("label");
    return ([kind, gold, found]) => kinds.has(kind) && (labels.has(gold) || labels.has(found));
  }

  const isOpened = (doc) => !doc.querySelector(".text > noscript");

  // What the steps lead to: errors or, of a cell, whatever it counts.
  const isTarget = ([kind]) => Boolean(cell) || kind !== CORRECT;

  const say = (n, noun) => `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;

  function open(doc) {
    const text = doc.querySelector(".text");
    if (isOpened(doc)) return;
    text.innerHTML = text.textContent;
    mark(doc, makeTest());
  }

  function mark(doc, test) {
    for (const each of doc.querySelectorAll("mark.e")) {
      const matches = JSON.parse(each.dataset.m);
      const tags = each.querySelectorAll(".t");
      const shown = matches.map(test);
      shown.forEach((is, i) => tags[i].classList.toggle("off", !is));
      each.classList.toggle("off", !shown.includes(true));
      each.classList.toggle("step", matches.some((match, i) => shown[i] && isTarget(match)));
    }
  }

  function countSteps(doc, test) {
    return pairs[doc.dataset.index].filter((pair) => isTarget(pair) && test(pair)).length;
  }

  // Where there is nothing to find, and nothing was found, nothing is wrong.
  function scoreOf(doc) {
    return doc.dataset.f === "" ? Infinity : Number(doc.dataset.f);
  }

  const orders = {
    given: (a, b) => a.dataset.index - b.dataset.index,
    worst: (a, b) => scoreOf(a) - scoreOf(b),
    errors: (a, b) => b.dataset.steps - a.dataset.steps,
    longest: (a, b) => b.dataset.tokens - a.dataset.tokens,
  };

  function update() {
    const test = makeTest();
    // A document without entities has none of any kind or label.
    const isEverything = !cell && !filter.querySelector("[type=checkbox]:not(:checked)");
    const noun = cell ? "example" : "error";
    let n = 0;
    for (const doc of docs) {
      const steps = countSteps(doc, test);
      doc.dataset.steps = steps;
      doc.querySelector(".count").textContent = say(steps, noun);
      const found = pairs[doc.dataset.index];
      doc.dataset.fits = found.some(test) || (!found.length && isEverything) ? "1" : "";
      if (isOpened(doc)) mark(doc, test);
    }
    docs.sort((a, b) => orders[$("order").value](a, b) || orders.given(a, b));
    for (const doc of docs) {
      const fits = doc.dataset.fits === "1";
      doc.hidden = !fits || (!showAll && n >= FIRST);
      if (fits) n += 1;
      $("list").append(doc);
    }
    $("all").hidden = showAll || n <= FIRST;
    $("all").textContent = `Show all ${n} documents`;
    const steps = docs.reduce((sum, doc) => sum + Number(doc.dataset.steps), 0);
    $("shown").textContent = `${n} of ${say(docs.length, "document")}, ${say(steps, noun)}` +
      (cell ? ` of ${cell.title}.` : ".");
    const labels = chosen("label").size;
    for (const each of filter.querySelectorAll(".chosen")) {
      each.textContent = labels === labelBoxes.length ? `all ${labels}` : `${labels} of ${labelBoxes.length}`;
    }
    for (const each of document.querySelectorAll("span.step")) each.textContent = noun;
  }

  let current = null;

  // Steps from where the reader is: from the entity visited last, even if a filter has
  // turned it off since, or from the document whose row was used last.
  function step(forward) {
    const order = docs.filter((doc) => doc.dataset.fits && Number(doc.dataset.steps));
    if (!order.length) return;
    const ahead = (each) => current && current.compareDocumentPosition(each) &
      (forward ? Node.DOCUMENT_POSITION_FOLLOWING : Node.DOCUMENT_POSITION_PRECEDING);
    const nearest = (found) => found.at(forward ? 0 : -1);
    const here = current && current.closest(".doc");
    if (order.includes(here) && here.open) {
      const next = nearest(stepsIn(here).filter(ahead));
      if (next) return go(next);
    }
    const others = order.filter((doc) => doc !== here);
    const doc = nearest(others.filter(ahead)) || nearest(order);
    if (doc.hidden) { showAll = true; update(); }
    doc.open = true;
    open(doc);
    go(nearest(stepsIn(doc)));
  }

  function stepsIn(doc) {
    return [...doc.querySelectorAll("mark.step")];
  }

  function go(each) {
    current = each;
    each.focus({ preventScroll: true });
    each.scrollIntoView({ block: "center" });
  }

  // Shows the examples of a cell of the matrix only, or with null all again.
  function showOnly(chosenCell) {
    if (cell) cell.firstChild.removeAttribute("aria-current");
    cell = chosenCell;
    if (cell) {
      cell.firstChild.setAttribute("aria-current", "true");
      for (const box of filter.querySelectorAll("[name=kind]")) box.checked = true;
    }
    $("label-boxes").hidden = Boolean(cell);
    for (const each of [$("pair"), ...document.querySelectorAll(".clear")]) each.hidden = !cell;
    for (const each of document.querySelectorAll(".pair")) each.textContent = cell && cell.title;
    update();
  }

  // Within a cell, so that it is a cell to those who hear the table.
  function makeButton(each) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = each.textContent;
    button.setAttribute("aria-label", `${each.title}: ${each.textContent}`);
    button.addEventListener("click", () => {
      showOnly(each);
      current = null;
      step(true);
    });
    each.replaceChildren(button);
  }

  // Where there are many labels: leaves those with this in their name.
  function find(part) {
    for (const box of labelBoxes) {
      box.parentElement.hidden = !box.value.toLowerCase().includes(part.trim().toLowerCase());
    }
  }

  // Of the labels that are left.
  function check(isChecked) {
    for (const box of labelBoxes) if (!box.parentElement.hidden) box.checked = isChecked;
    update();
  }

  // Whether the reader is at the documents: the focus came there last, or the pointer.
  let isAtDocuments = false;

  for (const kind of ["focusin", "pointerdown"]) {
    document.addEventListener(kind, (event) => { isAtDocuments = $("documents").contains(event.target); });
  }

  // The keys do nothing while the reader is elsewhere on the page: they may be spoken
  // words, or slips. In a select, a letter chooses an option, and in a field it is a letter.
  function isForSteps(target) {
    return isAtDocuments && !target.closest("select, [type=search]");
  }

  $("list").addEventListener("focusin", (event) => {
    current = event.target.closest("mark.e") || event.target.closest(".doc");
  });
  for (const doc of docs) doc.addEventListener("toggle", () => doc.open && open(doc));
  document.querySelectorAll("td[data-gold]").forEach(makeButton);
  for (const each of document.querySelectorAll(".clear")) {
    each.addEventListener("click", () => {
      // The button is gone: the focus goes to what is in its place.
      const place = filter.contains(each) ? $("label-boxes").querySelector("summary, input") : $("next");
      showOnly(null);
      place.focus({ preventScroll: true });
    });
  }
  for (const each of filter.querySelectorAll("[type=search]")) {
    each.addEventListener("input", () => find(each.value));
  }
  for (const each of filter.querySelectorAll(".find button")) {
    each.addEventListener("click", () => check(Boolean(each.value)));
  }
  filter.addEventListener("change", update);
  filter.addEventListener("submit", (event) => event.preventDefault());
  $("all").addEventListener("click", () => {
    showAll = true;
    update();
    // The button is gone: the reader is at the first of those that came in its place.
    docs.filter((doc) => !doc.hidden)[FIRST].querySelector("summary").focus({ preventScroll: true });
  });
  $("next").addEventListener("click", () => step(true));
  $("previous").addEventListener("click", () => step(false));
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !isForSteps(event.target)) return;
    if (event.key === "n") step(true);
    if (event.key === "p") step(false);
  });

  for (const each of [filter, ...document.querySelectorAll(".scripted")]) each.hidden = false;
  update();
  const first = docs.find((doc) => !doc.hidden);
  if (first) { first.open = true; open(first); }
})();
